// Package join has the test of joining by a DNS name that stands for more and more addresses, as a headless service of Kubernetes does
// while its pods start. It runs on a copy of this machine, whose resolver asks the test.
package join

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/protocol7/snakes/test/cluster"
	"github.com/protocol7/snakes/test/deploy/machine"
)

const (
	name     = "snakes-nodes.default.svc.cluster.local."
	patience = 30 * time.Second
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// names is a DNS server that knows one name.
type names struct {
	mu        sync.Mutex // guards the fields below
	addresses []netip.Addr
	asked     int
}

// add has the name stand for one more address.
func (n *names) add(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses = append(n.addresses, netip.MustParseAddr(address))
}

func (n *names) questions() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// ServeDNS implements dns.Handler.
func (n *names) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg).SetReply(question)
	n.mu.Lock()
	n.asked++
	addresses := slices.Clone(n.addresses)
	n.mu.Unlock()
	switch q := question.Question[0]; {
	case q.Name != name || len(addresses) == 0:
		answer.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypeA:
		for _, a := range addresses {
			answer.Answer = append(answer.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: a.AsSlice()})
		}
	}
	_ = w.WriteMsg(answer) // who gets none asks again
}

// serveNames has this copy of a machine ask n.
func serveNames(t *testing.T, n *names) {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: n}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	for path, text := range map[string]string{
		"/etc/resolv.conf":   "nameserver 127.0.0.1\nsearch default.svc.cluster.local\noptions ndots:5\n",
		"/etc/nsswitch.conf": "hosts: files dns\n",
	} {
		_ = os.Remove(path) // it may be a link to where nothing is on the copy
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// pods declares three nodes, each at an address of its own and all at port 9000, that join by the name.
func pods(t *testing.T) *cluster.Cluster {
	c := cluster.New(t, cluster.Options{Binary: "/srv/program/snakes", Env: []string{"GODEBUG=netdns=go"}})
	for i := range 3 {
		n := c.AddNode()
		n.Host, n.Port = fmt.Sprintf("127.0.0.%d", i+11), 9000
		n.Args = []string{"--bind", n.Host, "--join", "snakes-nodes"}
	}
	return c
}

// enter runs the test on a copy of this machine with the program.
func enter(t *testing.T) bool {
	if machine.Inside() {
		return machine.Enter(t, nil)
	}
	return machine.Enter(t, map[string]string{"/srv/program": filepath.Dir(cluster.Binary(t))})
}

// The first pod is alone under the name for so long that it founds a cluster. The others come one after the other, and all are one cluster.
func TestNodesJoinByANameThatGrows(t *testing.T) {
	if !enter(t) {
		return
	}
	n := new(names)
	serveNames(t, n)
	c := pods(t)
	first := c.Node(0)
	first.Start() // before anybody knows its name
	n.add(first.Host)
	c.AwaitMembers(patience, first)
	if err := first.Put("greeting", "hello there").Expect(201); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 3; i++ {
		c.Node(i).Start()
		n.add(c.Node(i).Host)
		c.AwaitMembers(patience)
	}
	for _, node := range c.Nodes() {
		if err := node.Get("greeting?r=1").Expect(200, "hello there"); err != nil {
			t.Error(err)
		}
	}
	if n.questions() == 0 {
		t.Error("nobody asked for the name: this test shows nothing")
	}
}

// With podManagementPolicy Parallel all start at once, and the name grows under them: no two clusters come of it.
func TestNodesThatStartAtOnceFoundOneCluster(t *testing.T) {
	if !enter(t) {
		return
	}
	n := new(names)
	serveNames(t, n)
	c := pods(t)
	c.StartAll()
	for _, node := range c.Nodes() {
		n.add(node.Host)
	}
	c.AwaitMembers(patience)
	for _, node := range c.Nodes() {
		if err := node.Put("key"+node.Name+"?w=all", "some value").Expect(201); err != nil {
			t.Error(err)
		}
	}
}
