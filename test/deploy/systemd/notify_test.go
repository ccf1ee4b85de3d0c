package systemd

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

const patience = 30 * time.Second

// manager is what systemd is to a node: a socket that takes words. Each message is kept whole.
type manager struct {
	t    *testing.T
	path string

	mu   sync.Mutex // guards the field below
	told []string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	if runtime.GOOS != "linux" {
		cluster.Missing(t, "systemd is for Linux")
	}
	dir, err := os.MkdirTemp("", "") // the path of a socket is 108 bytes at most
	must(t, err)
	m := &manager{t: t, path: filepath.Join(dir, "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buffer := make([]byte, 4096); ; {
			n, err := conn.Read(buffer)
			if err != nil {
				return // it is closed
			}
			m.mu.Lock()
			m.told = append(m.told, string(bytes.Clone(buffer[:n])))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close() // it is only read from
		<-done
		must(t, os.RemoveAll(dir))
	})
	return m
}

// node declares a cluster of one node that tells m, with more in its environment.
func (m *manager) node(args []string, environment ...string) *cluster.Node {
	c := cluster.New(m.t, cluster.Options{Env: append(environment, "NOTIFY_SOCKET="+m.path)})
	return c.AddNode(args...)
}

// words are all lines that were told so far.
func (m *manager) words() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, message := range m.told {
		all = append(all, strings.Split(message, "\n")...)
	}
	return all
}

// await returns once matches holds for a line told after the first from lines, and how many lines were told up to that.
func (m *manager) await(from int, what string, matches func(line string) bool) int {
	m.t.Helper()
	upto := 0
	cluster.Await(m.t, patience, what, func() error {
		words := m.words()
		i := slices.IndexFunc(words[min(from, len(words)):], matches)
		if i < 0 {
			return fmt.Errorf("told so far: %q", words)
		}
		upto = from + i + 1
		return nil
	})
	return upto
}

func (m *manager) awaitLine(from int, line string) int {
	m.t.Helper()
	return m.await(from, line, func(told string) bool { return told == line })
}

func (m *manager) awaitStatus(from int, begins string) int {
	m.t.Helper()
	return m.await(from, "STATUS="+begins, func(told string) bool { return strings.HasPrefix(told, "STATUS="+begins) })
}

func TestNodeTellsItsLifeToTheManager(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	n := m.node(nil)
	n.Launch()
	ready := m.awaitLine(0, "READY=1")
	if r := n.Do(http.MethodGet, "/-/healthy", ""); r.Err != nil || r.Status != http.StatusOK {
		t.Errorf("a request once the node is ready: got %d, %v, want an answer", r.Status, r.Err)
	}
	ready = m.awaitStatus(ready, "Ready at "+n.Addr()+"; 1 of 1 member alive in cluster ")

	n.HangUp()
	reloading := m.awaitLine(ready, "RELOADING=1")
	reloaded := m.awaitLine(reloading, "READY=1")
	if err := n.Put("foo", "bar").Expect(http.StatusCreated); err != nil {
		t.Errorf("after SIGHUP, without anything to read again: %v", err)
	}

	n.Stop()
	stopping := m.awaitLine(reloaded, "STOPPING=1")
	if rest := m.words()[stopping:]; slices.Contains(rest, "READY=1") {
		t.Errorf("told after STOPPING=1: %q", rest)
	}
}

// Units that wait for each other would never be up if a node alone were not.
func TestNodeThatFindsNobodyIsReadyAndSaysThatItLooks(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	n := m.node([]string{"--join", "127.0.0.1:1"})
	n.Launch()
	m.awaitStatus(m.awaitLine(0, "READY=1"), "Joining at "+n.Addr()+": no member of cluster ")
	if r := n.Do(http.MethodGet, "/-/ready", ""); r.Status != http.StatusServiceUnavailable {
		t.Errorf("/-/ready: got %d, want 503: the unit is up, the node not ready", r.Status)
	}
}

func TestStatusFollowsTheCluster(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	c := cluster.New(t, cluster.Options{Nodes: 2, Env: []string{"NOTIFY_SOCKET=" + m.path}}) // both tell it, each of itself
	c.Start()
	line := "Ready at " + c.Node(0).Addr() + "; "
	both := m.awaitStatus(0, line+"2 of 2 members alive")
	c.Node(1).Kill()
	m.awaitStatus(both, "Not ready at "+c.Node(0).Addr()+": a plain PUT needs 2 of 2 members; 1 is alive")
}

func TestWatchdogIsFedWhileNobodyWrites(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	n := m.node(nil, "WATCHDOG_USEC=3000000")
	n.Launch()
	told := m.awaitLine(0, "READY=1")
	for range 3 {
		told = m.awaitLine(told, "WATCHDOG=1")
	}
	n.Stop()
}

func TestNodeRefusesAWatchdogThatMakesNoSense(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	n := m.node(nil, "WATCHDOG_USEC=soon")
	n.Launch()
	if code := n.AwaitExit(patience); code != 2 || !strings.Contains(n.Log(), "WATCHDOG_USEC") {
		t.Errorf("got exit code %d and %q, want 2 and a word about WATCHDOG_USEC", code, n.Log())
	}
}
