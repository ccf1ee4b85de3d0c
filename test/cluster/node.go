package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Node is one declared node: the fields are the command line of its next process and may be changed while it is not
// running. The methods that start and end processes belong in the test's goroutine.
type Node struct {
	Name string   // --name; empty leaves it out
	Host string   // the IP address that it listens on
	Port int      // --port
	Data string   // --data
	Args []string // added at every start
	// Binary is the program to run instead of the cluster's, empty for that.
	Binary string

	cluster   *Cluster
	namespace *namespace // nil on loopback
	client    *http.Client
	logPath   string

	mu      sync.Mutex // guards process
	process *process   // the current or last one; nil before the first start
}

// process is one run of a node.
type process struct {
	cmd     *exec.Cmd
	started time.Time
	wanted  bool          // its end was asked for; the test's goroutine only
	ended   chan struct{} // closed when the process is gone
	code    int           // the exit code, -1 after a signal; readable once ended is closed
}

// String names the node as its cluster does.
func (n *Node) String() string {
	if n.Name != "" {
		return n.Name
	}
	return n.Addr()
}

// Addr is the HOST:PORT that the node is reached and joined at.
func (n *Node) Addr() string { return net.JoinHostPort(n.Host, strconv.Itoa(n.Port)) }

// NewPort gives the node another free port for its next start. Only on Loopback.
func (n *Node) NewPort() {
	n.cluster.t.Helper()
	port, err := processPorts.free()
	if err != nil {
		n.cluster.t.Fatal(err)
	}
	n.Port = port
}

// Launch starts the node's process and waits for nothing; args come after the node's usual ones, for this run only.
func (n *Node) Launch(args ...string) {
	t := n.cluster.t
	t.Helper()
	if n.Running() {
		t.Fatalf("launch %s: it is running", n)
	}
	log, err := os.OpenFile(n.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatalf("launch %s: %v", n, err)
	}
	defer log.Close()
	cmd := exec.Command(cmp.Or(n.Binary, n.cluster.options.Binary), n.commandLine(args)...)
	cmd.Dir = n.cluster.dir
	cmd.Env = environment(n.cluster.options.Env)
	cmd.Stdout, cmd.Stderr = log, log
	dieWithTest(cmd)

	p := &process{cmd: cmd, started: time.Now(), ended: make(chan struct{})}
	if err := onStarter(func() error { return n.namespace.do(cmd.Start) }); err != nil {
		t.Fatalf("launch %s: %v", n, err)
	}
	go func() {
		// The exit code says all: the streams are files, so Wait has no copying to report on.
		_ = cmd.Wait()
		p.code = cmd.ProcessState.ExitCode()
		close(p.ended)
	}()
	n.mu.Lock()
	n.process = p
	n.mu.Unlock()
}

func (n *Node) commandLine(more []string) []string {
	o := n.cluster.options
	line := []string{"--port", strconv.Itoa(n.Port), "--data", n.Data, "--cluster", o.ClusterName}
	if n.Name != "" {
		line = append(line, "--name", n.Name)
	}
	if o.Network != Loopback {
		line = append(line, "--bind", n.Host, "--insecure")
	}
	line = append(line, o.Args...)
	line = append(line, n.Args...)
	return append(line, more...)
}

// environment is the test's own without the settings of snakes, which would change what a test starts, and with more.
func environment(more []string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "SNAKES_") {
			env = append(env, e)
		}
	}
	return append(env, more...)
}

// Start starts the node's process and waits until it answers HTTP, whatever the answer; args come after the node's
// usual ones, for this run only. It returns the time from start to answer.
func (n *Node) Start(args ...string) time.Duration {
	n.cluster.t.Helper()
	n.Launch(args...)
	return n.AwaitAnswer(startDeadline)
}

// AwaitAnswer waits until the launched process answers HTTP, whatever the answer, and returns the time from its start.
// It fails the test when the process ends first or d has passed.
func (n *Node) AwaitAnswer(d time.Duration) time.Duration {
	t := n.cluster.t
	t.Helper()
	p := n.current()
	for {
		r := n.Do(http.MethodGet, "/-/healthy", "")
		since := time.Since(p.started)
		switch {
		case r.Err == nil:
			return since
		case p.gone():
			p.wanted = true // reported here
			t.Fatalf("%s ended with exit code %d before its first answer", n, p.code)
		case since > d:
			t.Fatalf("%s has not answered %v after its start: %v", n, since.Round(time.Millisecond), r.Err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Kill ends the process at once, as kill -9 does, and waits until it is gone.
func (n *Node) Kill() {
	n.cluster.t.Helper()
	p := n.running("kill")
	if err := p.kill(); err != nil {
		n.cluster.t.Fatalf("kill %s: %v", n, err)
	}
}

// End ends the process as Kill does, unless it has ended by itself, which is allowed.
func (n *Node) End() {
	n.cluster.t.Helper()
	if err := n.current().kill(); err != nil {
		n.cluster.t.Fatalf("end %s: %v", n, err)
	}
}

// Stop asks the process to end, as SIGTERM does, waits until it is gone and fails the test unless its exit code is 0.
func (n *Node) Stop() {
	n.cluster.t.Helper()
	n.Terminate()
	if code := n.AwaitExit(15 * time.Second); code != 0 {
		n.cluster.t.Fatalf("%s ended with exit code %d after SIGTERM, want 0", n, code)
	}
}

// Terminate sends SIGTERM and waits for nothing.
func (n *Node) Terminate() {
	n.cluster.t.Helper()
	p := n.running("terminate")
	p.wanted = true
	if err := terminate(p.cmd.Process); err != nil {
		n.cluster.t.Fatalf("terminate %s: %v", n, err)
	}
}

// AwaitExit waits until the process has ended by itself and returns its exit code, -1 after a signal. It fails the test
// when that takes longer than d.
func (n *Node) AwaitExit(d time.Duration) int {
	n.cluster.t.Helper()
	p := n.current()
	p.wanted = true
	select {
	case <-p.ended:
		return p.code
	case <-time.After(d):
		n.cluster.t.Fatalf("%s has not ended after %v", n, d)
		return -1
	}
}

// Restart stops the node and starts it again at the same address with the same data and without further arguments.
func (n *Node) Restart() {
	n.cluster.t.Helper()
	n.Stop()
	n.Start()
}

// Freeze takes the processor from the process, as SIGSTOP does: its connections stay open and nothing answers.
func (n *Node) Freeze() {
	n.cluster.t.Helper()
	p := n.running("freeze").cmd.Process
	err := freeze(p)
	if err == nil {
		err = awaitFrozen(p)
	}
	if err != nil {
		n.cluster.t.Fatalf("freeze %s: %v", n, err)
	}
}

// Thaw lets a frozen process go on.
func (n *Node) Thaw() {
	n.cluster.t.Helper()
	if err := thaw(n.running("thaw").cmd.Process); err != nil {
		n.cluster.t.Fatalf("thaw %s: %v", n, err)
	}
}

// HangUp sends SIGHUP, which has a node read its secret file again, and waits for nothing.
func (n *Node) HangUp() {
	n.cluster.t.Helper()
	if err := hangUp(n.running("hang up").cmd.Process); err != nil {
		n.cluster.t.Fatalf("hang up %s: %v", n, err)
	}
}

// Wipe removes the data directory of a node that is not running, as a new disk would.
func (n *Node) Wipe() {
	n.cluster.t.Helper()
	if n.Running() {
		n.cluster.t.Fatalf("wipe %s: it is running", n)
	}
	if err := os.RemoveAll(n.Data); err != nil {
		n.cluster.t.Fatalf("wipe %s: %v", n, err)
	}
}

// CopyData copies the data directory of a node that is not running, as a backup of the disk would, and returns where
// the copy is. It goes with the test.
func (n *Node) CopyData() string {
	t := n.cluster.t
	t.Helper()
	if n.Running() {
		t.Fatalf("copy the data of %s: it is running", n)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(n.Data)); err != nil {
		t.Fatalf("copy the data of %s: %v", n, err)
	}
	return dir
}

// PutBack replaces the data directory of a node that is not running by what CopyData has copied, as when an old backup
// is restored. The copy stays.
func (n *Node) PutBack(dir string) {
	n.cluster.t.Helper()
	n.Wipe()
	if err := os.CopyFS(n.Data, os.DirFS(dir)); err != nil {
		n.cluster.t.Fatalf("put back the data of %s: %v", n, err)
	}
}

// Running says whether the node's process exists, frozen or not.
func (n *Node) Running() bool {
	p := n.lastProcess()
	return p != nil && !p.gone()
}

// PID is the process id of the current or last process, 0 before the first start.
func (n *Node) PID() int {
	p := n.lastProcess()
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Log is what all processes of the node have written to standard output and standard error so far.
func (n *Node) Log() string {
	data, err := os.ReadFile(n.logPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Sprintf("(%v)", err)
	}
	return string(data)
}

func (n *Node) lastProcess() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// current is the last process, running or not; without one the test fails.
func (n *Node) current() *process {
	n.cluster.t.Helper()
	p := n.lastProcess()
	if p == nil {
		n.cluster.t.Fatalf("%s has not been started", n)
	}
	return p
}

// running is the running process; without one the test fails.
func (n *Node) running(purpose string) *process {
	n.cluster.t.Helper()
	p := n.current()
	if p.gone() {
		n.cluster.t.Fatalf("%s %s: it has ended with exit code %d", purpose, n, p.code)
	}
	return p
}

// end ends the process, if any, and returns an error when it had ended by itself and nobody had asked for that.
func (n *Node) end() error {
	p := n.lastProcess()
	if p == nil {
		return nil
	}
	if p.gone() {
		if !p.wanted {
			return fmt.Errorf("it had ended by itself with exit code %d", p.code)
		}
		return nil
	}
	return p.kill()
}

func (n *Node) state() string {
	p := n.lastProcess()
	if p == nil {
		return "never started"
	}
	if p.gone() {
		return fmt.Sprintf("%s, ended with exit code %d", n.Addr(), p.code)
	}
	return n.Addr() + ", running"
}

func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// kill ends the process and waits until it is gone. A process that has just ended by itself is no error.
func (p *process) kill() error {
	p.wanted = true
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended
	return nil
}
