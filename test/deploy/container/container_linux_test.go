package container

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
	"github.com/protocol7/snakes/test/deploy/machine"
)

const (
	root    = "../../.."
	source  = "/srv/source" // on the copy
	nonRoot = 65532
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made returns a directory with what the image is built of, as README makes it in the source.
func made(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		cluster.Missing(t, "the image is tried on Linux, on amd64")
	}
	if _, err := exec.LookPath("buildah"); err != nil {
		cluster.Missing(t, "this test builds an image with buildah, Debian's package of that name: %v", err)
	}
	dir := t.TempDir()
	must(t, os.CopyFS(filepath.Join(dir, "deploy", "container"), os.DirFS(filepath.Join(root, "deploy", "container"))))
	cmd := exec.Command("go", "run", "./deploy/release", "-only", "linux/amd64", "-o", filepath.Join(dir, "dist"))
	cmd.Dir = root
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return dir
}

// buildah returns what one of its commands prints.
func buildah(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("buildah", append([]string{"--storage-driver", "vfs", "--root", "/srv/storage", "--runroot", "/run/storage"}, args...)...)
	cmd.Env = append(os.Environ(), "BUILDAH_ISOLATION=chroot")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("buildah %s: %v\n%s%s", strings.Join(args, " "), err, output, complaints.String())
	}
	return strings.TrimSpace(string(output))
}

// image is what Docker knows of one.
type image struct {
	Docker struct {
		Config struct {
			User         string
			Env          []string
			Entrypoint   []string
			Cmd          []string
			Volumes      map[string]struct{}
			ExposedPorts map[string]struct{}
			StopSignal   string
			Healthcheck  struct{ Test []string }
		} `json:"config"`
	}
}

func TestImageHoldsTheProgramAndRunsAsNobody(t *testing.T) {
	if !machine.Inside() && !machine.Enter(t, map[string]string{source: made(t)}) {
		return
	}
	buildah(t, "bud", "--format", "docker", "--isolation", "chroot", "--pull-never", "-f", source+"/deploy/container/Dockerfile", "-t", "snakes", source)
	var got image
	must(t, json.Unmarshal([]byte(buildah(t, "inspect", "--type", "image", "snakes")), &got))
	c := got.Docker.Config
	_, volume := c.Volumes["/var/lib/snakes"]
	_, tcp := c.ExposedPorts["9000/tcp"]
	_, udp := c.ExposedPorts["9000/udp"]
	if c.User != "65532:65532" || !volume || !tcp || !udp || c.StopSignal != "SIGTERM" || !slices.Equal(c.Entrypoint, []string{"/usr/bin/snakes"}) || len(c.Cmd) > 0 {
		t.Errorf("got another image than the Dockerfile says: %+v", c)
	}
	if !slices.Equal(c.Healthcheck.Test, []string{"CMD", "/usr/bin/snakes", "status", "-q"}) {
		t.Errorf("health check: got %q", c.Healthcheck.Test)
	}

	dir := buildah(t, "mount", buildah(t, "from", "--pull-never", "snakes"))
	var files []string
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	if want := []string{"usr/bin/snakes", "var/lib/snakes/README"}; !slices.Equal(files, want) {
		t.Errorf("files of the image: got %q, want %q", files, want)
	}
	run(t, dir, c.Env, c.Healthcheck.Test[1:])
}

// run starts the image's program with the image's directory for its root and no other rights than the image's user has, puts and gets a
// value, and ends it.
func run(t *testing.T, dir string, environment, health []string) {
	inside := func(args ...string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env, cmd.Dir = environment, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Chroot: dir, Credential: &syscall.Credential{Uid: nonRoot, Gid: nonRoot, Groups: []uint32{}}, Pdeathsig: syscall.SIGKILL,
		}
		return cmd
	}
	if err := inside(health...).Run(); err == nil {
		t.Error("health check without a node: got 0")
	}
	node := inside("/usr/bin/snakes", "--bind", "0.0.0.0", "--insecure")
	var log strings.Builder
	node.Stderr = &log
	runtime.LockOSThread() // the node dies with the thread that started it
	must(t, node.Start())
	ended := make(chan error, 1)
	go func() { ended <- node.Wait() }()
	cluster.Await(t, 30*time.Second, "a healthy container", func() error { return inside(health...).Run() })
	if output, err := inside("/usr/bin/snakes", "put", "greeting", "hello there").CombinedOutput(); err != nil {
		t.Fatalf("put: %v\n%s", err, output)
	}
	output, err := inside("/usr/bin/snakes", "get", "greeting").Output()
	if err != nil || string(output) != "hello there" {
		t.Errorf("get: got %q, %v", output, err)
	}
	if answer, err := http.Get("http://127.0.0.1:9000/greeting"); err != nil {
		t.Error(err)
	} else {
		must(t, answer.Body.Close())
	}
	must(t, node.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("after SIGTERM: %v\n%s", err, log.String())
		}
	case <-time.After(30 * time.Second):
		t.Error(errors.Join(errors.New("it has not ended after SIGTERM"), node.Process.Kill()))
	}
}
