// Package manifests has the tests of deploy/kubernetes and deploy/container/compose.yaml: each is decoded strictly, as the API server and
// docker compose do, and its parts fit each other. It is a module of its own: what it needs is no part of snakes.
package manifests

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	kubernetes = "../../../deploy/kubernetes/snakes.yaml"
	compose    = "../../../deploy/container/compose.yaml"
)

// manifests are the objects of the file for Kubernetes.
type manifests struct {
	services map[string]core.Service
	budget   policy.PodDisruptionBudget
	set      apps.StatefulSet
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// decode decodes all documents; what the types do not know is an error.
func decode(t *testing.T, content []byte) (manifests, error) {
	t.Helper()
	m := manifests{services: make(map[string]core.Service)}
	for document := range bytes.SplitSeq(content, []byte("\n---\n")) {
		var kind meta.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			return m, err
		}
		var err error
		switch kind.APIVersion + " " + kind.Kind {
		case "v1 Service":
			var s core.Service
			err = yaml.UnmarshalStrict(document, &s)
			m.services[s.Name] = s
		case "policy/v1 PodDisruptionBudget":
			err = yaml.UnmarshalStrict(document, &m.budget)
		case "apps/v1 StatefulSet":
			err = yaml.UnmarshalStrict(document, &m.set)
		default:
			t.Errorf("a document is of %s %q", kind.APIVersion, kind.Kind)
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

func decoded(t *testing.T) manifests {
	t.Helper()
	m, err := decode(t, read(t, kubernetes))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFieldsThatDoNotExistAreRefused(t *testing.T) {
	wrong := bytes.Replace(read(t, kubernetes), []byte("enableServiceLinks"), []byte("enableServiceLink"), 1)
	if _, err := decode(t, wrong); err == nil || !strings.Contains(err.Error(), "enableServiceLink") {
		t.Errorf("got %v for a field that does not exist: this test sees nothing", err)
	}
}

func TestServicesReachThePods(t *testing.T) {
	m := decoded(t)
	pods := m.set.Spec.Template
	ports := make(map[string]core.Protocol)
	for _, port := range pods.Spec.Containers[0].Ports {
		ports[port.Name] = port.Protocol
		if port.ContainerPort != 9000 {
			t.Errorf("port %s of the container is %d, want 9000: all is on one", port.Name, port.ContainerPort)
		}
	}
	if len(m.services) != 2 {
		t.Fatalf("got %d services, want one for clients and one for nodes", len(m.services))
	}
	for name, s := range m.services {
		for key, value := range s.Spec.Selector {
			if pods.Labels[key] != value {
				t.Errorf("service %s selects %s=%s, and pods have %q", name, key, value, pods.Labels[key])
			}
		}
		for _, port := range s.Spec.Ports {
			if got, known := ports[port.TargetPort.StrVal]; !known || got != port.Protocol || port.Port != 9000 {
				t.Errorf("service %s: port %+v is none of the container's %v", name, port, ports)
			}
		}
	}
	nodes := m.services[m.set.Spec.ServiceName]
	protocols := []core.Protocol{}
	for _, port := range nodes.Spec.Ports {
		protocols = append(protocols, port.Protocol)
	}
	if nodes.Spec.ClusterIP != core.ClusterIPNone || !nodes.Spec.PublishNotReadyAddresses || !slices.Equal(protocols, []core.Protocol{core.ProtocolTCP, core.ProtocolUDP}) {
		t.Errorf("the service of nodes: got %+v, want it headless, with those that are not ready, for TCP and UDP", nodes.Spec)
	}
	if clients := m.services["snakes"]; clients.Spec.ClusterIP == core.ClusterIPNone || clients.Spec.PublishNotReadyAddresses {
		t.Errorf("the service of clients: got %+v, want an address for those that are ready", clients.Spec)
	}
	if got := m.budget.Spec; got.MaxUnavailable == nil || got.MaxUnavailable.IntValue() != 1 || got.Selector.MatchLabels["app.kubernetes.io/name"] != pods.Labels["app.kubernetes.io/name"] {
		t.Errorf("the disruption budget: got %+v, want one pod at a time", got)
	}
}

func TestPodsJoinProbeAndKeepTheSecret(t *testing.T) {
	m := decoded(t)
	pod := m.set.Spec.Template.Spec
	c := pod.Containers[0]
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Error("enableServiceLinks: want false, or SNAKES_PORT is set to what it does not mean")
	}
	if !slices.Contains(c.Args, "--join="+m.set.Spec.ServiceName) || !slices.Contains(c.Args, "--secret-file=/etc/snakes/secret.txt") {
		t.Errorf("arguments: got %q, want --join and --secret-file", c.Args)
	}
	if c.StartupProbe.HTTPGet.Path != "/-/healthy" || c.LivenessProbe.HTTPGet.Path != "/-/healthy" || c.ReadinessProbe.HTTPGet.Path != "/-/ready" {
		t.Errorf("probes: got %s, %s and %s", c.StartupProbe.HTTPGet.Path, c.LivenessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Path)
	}
	for _, probe := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if probe.HTTPGet.Port.StrVal != "node" {
			t.Errorf("a probe asks port %s", probe.HTTPGet.Port.String())
		}
	}
	mounts := make(map[string]core.VolumeMount)
	for _, mount := range c.VolumeMounts {
		mounts[mount.Name] = mount
	}
	if got := mounts[m.set.Spec.VolumeClaimTemplates[0].Name]; got.MountPath != "/var/lib/snakes" {
		t.Errorf("data: got %+v, want the volume where the image keeps them", got)
	}
	secret := pod.Volumes[0]
	// The file is root's, open to the group, which the process is in: node/secret takes that and nothing more.
	if got := mounts[secret.Name]; got.MountPath != "/etc/snakes" || secret.Secret == nil || *secret.Secret.DefaultMode != 0o440 || *pod.SecurityContext.FSGroup != *pod.SecurityContext.RunAsGroup {
		t.Errorf("secret: got %+v of %+v, want it where --secret-file looks, for the group alone", got, secret)
	}
	s := c.SecurityContext
	if !*pod.SecurityContext.RunAsNonRoot || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Contains(s.Capabilities.Drop, "ALL") {
		t.Errorf("the process may do more than it has to: %+v, %+v", pod.SecurityContext, s)
	}
	if *pod.TerminationGracePeriodSeconds < 20 {
		t.Errorf("a pod has %d s to stop; draining takes 5 and --drain-timeout is 10", *pod.TerminationGracePeriodSeconds)
	}
}

func TestComposeStartsThreeNodesThatFindEachOther(t *testing.T) {
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: t.TempDir(), ConfigFiles: []types.ConfigFile{{Filename: compose, Content: read(t, compose)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(project.Services) != 3 {
		t.Fatalf("got %d services, want 3", len(project.Services))
	}
	published := make(map[string]bool)
	for name, s := range project.Services {
		join := s.Environment["SNAKES_JOIN"]
		if join == nil || !slices.Contains(strings.Split(*join, ","), name) || strings.Count(*join, ",") != 2 {
			t.Errorf("%s joins %v, want all three", name, join)
		}
		if len(s.Volumes) != 1 || s.Volumes[0].Target != "/var/lib/snakes" || s.Volumes[0].Source != name {
			t.Errorf("%s: got volumes %+v, want one of its own", name, s.Volumes)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" || port.Target != 9000 || published[port.Published] {
				t.Errorf("%s: got port %+v, want 9000 at another one of this machine alone", name, port)
			}
			published[port.Published] = true
		}
	}
}
