package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// recorder is a test whose failures are looked at instead of reported. Its cleanups run when fails returns.
type recorder struct {
	testing.TB
	mu       sync.Mutex // guards messages
	messages []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) record(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, text)
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.messages) > 0
}

func (r *recorder) Logf(format string, args ...any) {
	if r.Failed() {
		r.record(fmt.Sprintf(format, args...))
	}
}
func (r *recorder) Errorf(format string, args ...any) { r.record(fmt.Sprintf(format, args...)) }
func (r *recorder) Fatal(args ...any)                 { r.record(fmt.Sprint(args...)); runtime.Goexit() }

func (r *recorder) Fatalf(format string, args ...any) {
	r.record(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// fails runs story as a test of its own and returns what it reported: empty when it passed.
func fails(t *testing.T, story func(testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			for _, f := range slices.Backward(r.cleanups) {
				f()
			}
		}()
		story(r)
	})
	wg.Wait()
	return strings.Join(r.messages, "\n")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestClusterStartsAndSeesItself(t *testing.T) {
	t.Parallel()
	c := fakeCluster(t, 3, Loopback, "good")
	c.Start()
	must(t, c.Node(0).Put("foo", "some value").Expect(201, ""))
	must(t, c.Node(0).Get("foo").Expect(200, "some value"))
	if got := c.Node(0).Get("foo").Expect(200, "other"); got == nil {
		t.Error("Expect took another body for the wanted one")
	}
	if _, err := c.Node(0).Get("nope").ExpectProblem(404, "not-found"); err != nil {
		t.Error(err)
	}
	if _, err := c.Node(0).Get("nope").ExpectProblem(404, "quorum"); err == nil {
		t.Error("ExpectProblem took another code for the wanted one")
	}
	must(t, c.Node(0).SendRaw("GET /foo HTTP/1.1\nHost: x\n\n").Expect(200, "some value"))
	must(t, c.Node(1).Put("foo", "some value").Expect(201))
	must(t, c.Node(2).Put("foo", "some value").Expect(201))
	c.AwaitConverged(time.Second)
}

func TestDataIsPutBackAsItWasCopied(t *testing.T) {
	t.Parallel()
	c := fakeCluster(t, 1, Loopback, "good")
	c.Start()
	n := c.Node(0)
	must(t, n.Put("foo", "old").Expect(201))
	n.Kill()
	old := n.CopyData()
	n.Start()
	must(t, n.Put("foo", "new").Expect(201))
	must(t, n.Put("bar", "new").Expect(201))
	n.Kill()
	for range 2 { // the copy stays
		n.PutBack(old)
		n.Start()
		must(t, n.Get("foo").Expect(200, "old"))
		must(t, n.Get("bar").Expect(404))
		n.Kill()
	}
	if got := fails(t, func(t testing.TB) {
		c := fakeCluster(t, 1, Loopback, "good")
		c.Start()
		c.Node(0).CopyData()
	}); !strings.Contains(got, "it is running") {
		t.Errorf("copying the data of a running node: got %q, want that it is running", got)
	}
}

func TestKilledNodeComesBackAtItsAddressWithItsData(t *testing.T) {
	t.Parallel()
	c := fakeCluster(t, 2, Loopback, "good")
	c.Start()
	n := c.Node(1)
	must(t, n.Put("foo", "bar").Expect(201))
	pid := n.PID()
	n.Kill()
	if n.Running() {
		t.Fatal("running after Kill")
	}
	if r := n.Get("foo"); r.Err == nil || r.Status != 0 {
		t.Fatalf("got %s, want no answer from a killed node", r)
	}
	c.AwaitState(5*time.Second, "failed", n)
	n.Start()
	must(t, n.Get("foo").Expect(200, "bar"))
	if n.PID() == pid {
		t.Fatal("the same process after Kill and Start")
	}
	c.AwaitMembers(5 * time.Second)
	if got := strings.Count(n.Log(), "fake node at "+n.Addr()); got != 2 {
		t.Errorf("the log shows %d starts, want 2 at the same address:\n%s", got, n.Log())
	}
	n.Stop()
	n.Wipe()
	n.Start()
	must(t, n.Get("foo").Expect(404))
	n.Restart()
	n.Stop()
	n.NewPort()
	n.Start()
	c.AwaitMembers(5 * time.Second)
	c.Node(0).Kill()
	c.Node(1).Kill()
	c.StartAll()
	c.AwaitMembers(5 * time.Second)
}

func TestFrozenNodeKeepsSilentUntilThawed(t *testing.T) {
	t.Parallel()
	c := fakeCluster(t, 1, Loopback, "good")
	n := c.Node(0)
	n.Start()
	n.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Addr()+"/-/healthy", nil)
	must(t, err)
	if r := n.Send(req); !errors.Is(r.Err, context.DeadlineExceeded) {
		t.Fatalf("got %s, want silence", r)
	}
	n.Thaw()
	must(t, n.Do("GET", "/-/healthy", "").Expect(200))
	n.Freeze() // cleanup must end a frozen process too
}

func TestFailuresOfNodesFailTheTest(t *testing.T) {
	t.Parallel()
	stories := []struct {
		name  string
		story func(testing.TB)
		want  string
	}{
		{"all well", func(t testing.TB) { fakeCluster(t, 1, Loopback, "good").Start() }, ""},
		{"ends at start", func(t testing.TB) { fakeCluster(t, 1, Loopback, "exits").Node(0).Start() }, "exit code 1 before its first answer"},
		{"its log is shown", func(t testing.TB) { fakeCluster(t, 1, Loopback, "exits").Node(0).Start() }, "exit by request"},
		{"ends by itself", func(t testing.TB) {
			n := fakeCluster(t, 1, Loopback, "good").Node(0)
			n.Start()
			must(t, terminate(n.current().cmd.Process))
			<-n.current().ended
		}, "ended by itself with exit code 0"},
		{"ends badly", func(t testing.TB) {
			n := fakeCluster(t, 1, Loopback, "dies badly").Node(0)
			n.Start()
			n.Stop()
		}, "exit code 1 after SIGTERM, want 0"},
		{"wanted bad end", func(t testing.TB) {
			n := fakeCluster(t, 1, Loopback, "exits").Node(0)
			n.Launch()
			if got := n.AwaitExit(5 * time.Second); got != 1 {
				t.Errorf("exit code %d, want 1", got)
			}
		}, ""},
		{"data race", func(t testing.TB) { fakeCluster(t, 1, Loopback, "races").Node(0).Start() }, `contains "WARNING: DATA RACE"`},
		{"state never comes", func(t testing.TB) {
			c := fakeCluster(t, 1, Loopback, "good")
			c.Await(10*time.Millisecond, "miracle", func() error { return errors.New("not yet") })
		}, `no "miracle" after`},
		{"state does not last", func(t testing.TB) {
			c := fakeCluster(t, 0, Loopback, "good")
			c.Throughout(time.Second, "peace", func() error { return errors.New("over") })
		}, `"peace" lasted only`},
		{"digests differ", func(t testing.TB) {
			c := fakeCluster(t, 2, Loopback, "good")
			c.Start()
			must(t, c.Node(0).Put("foo", "x").Expect(201))
			c.AwaitConverged(10 * time.Millisecond)
		}, "1 keys"},
	}
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			got := fails(t, s.story)
			if s.want == "" && got != "" || !strings.Contains(got, s.want) {
				t.Errorf("the test reported %q, want %q", got, s.want)
			}
		})
	}
}

func TestNoProcessOutlivesItsTest(t *testing.T) {
	t.Parallel()
	var pids []int
	fails(t, func(t testing.TB) {
		c := fakeCluster(t, 2, Loopback, "good")
		c.Start()
		for _, n := range c.Nodes() {
			pids = append(pids, n.PID())
		}
		c.Node(1).Freeze()
		t.Fatal("the story breaks off here")
	})
	if len(pids) != 2 {
		t.Fatalf("got %d processes, want 2", len(pids))
	}
	for _, pid := range pids {
		if exists(pid) {
			t.Errorf("process %d exists after its test", pid)
		}
	}
}

// TestNoProcessOutlivesACrashedTest runs the next function in a test process of its own and kills that.
func TestNoProcessOutlivesACrashedTest(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends the children of a dead process")
	}
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, "-test.run=^TestHelperStartsNodeAndHangs$")
	cmd.Env = append(os.Environ(), "SNAKES_HANG=1")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var pid int
	_, scanErr := fmt.Fscanf(out, "node %d\n", &pid)
	must(t, errors.Join(cmd.Process.Kill(), scanErr))
	if err := cmd.Wait(); err == nil {
		t.Fatal("the helper ended well, want killed")
	}
	Await(t, 5*time.Second, "end of the node", func() error {
		if exists(pid) {
			return fmt.Errorf("process %d exists", pid)
		}
		return nil
	})
}

// TestHelperStartsNodeAndHangs is no test by itself; see TestNoProcessOutlivesACrashedTest.
func TestHelperStartsNodeAndHangs(t *testing.T) {
	if os.Getenv("SNAKES_HANG") == "" {
		return
	}
	c := fakeCluster(t, 1, Loopback, "good")
	c.Start()
	fmt.Printf("node %d\n", c.Node(0).PID())
	select {}
}

func exists(pid int) bool {
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}

func TestMissingSkipsButNotInCI(t *testing.T) {
	for _, c := range []struct{ ci, want string }{{"", "skipped"}, {"true", "failed"}} {
		t.Setenv("CI", c.ci)
		got := "neither"
		r := &skipRecorder{recorder: recorder{TB: t}}
		var wg sync.WaitGroup
		wg.Go(func() { Missing(r, "no %s", "moon") })
		wg.Wait()
		if r.skipped {
			got = "skipped"
		} else if r.Failed() {
			got = "failed"
		}
		if got != c.want {
			t.Errorf("CI=%q: got %s, want %s", c.ci, got, c.want)
		}
	}
}

type skipRecorder struct {
	recorder
	skipped bool
}

func (r *skipRecorder) Skipf(string, ...any) { r.skipped = true; runtime.Goexit() }
