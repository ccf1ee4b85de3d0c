package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/protocol7/snakes/node"
)

func TestMain(m *testing.M) {
	testscript.Main(withoutLeaks{m}, map[string]func(){"snakes": main})
}

// withoutLeaks fails tests that pass and leave goroutines behind.
type withoutLeaks struct{ *testing.M }

func (m withoutLeaks) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// patience is how long a background process may take to do what a script waits for.
const patience = 30 * time.Second

// The scripts share two nodes: SNAKES_SERVER is a cluster of one, JOINING has a seed that never answers.
//
// exits CODE snakes ARG...: like exec, with the exit code that is expected.
//
// start NAME PATTERN [VARIABLE=VALUE]... ARG...: runs snakes in the background until what it prints matches PATTERN;
// named groups become variables of the script.
//
// signal NAME SIGNAL CODE: sends TERM, INT or HUP, and awaits the exit code. What it printed is stderr then.
//
// shows NAME PATTERN: awaits that what it printed in all matches PATTERN.
//
// reload NAME PATTERN: sends HUP, and awaits more output that matches PATTERN.
//
// await NAME CODE: awaits that it ends by itself. What it printed is stderr then.
//
// rmdir DIRECTORY: removes an empty directory.
func TestScripts(t *testing.T) {
	serverURL := startNode(t, node.Config{Data: filepath.Join(t.TempDir(), "one"), Name: "one"})
	joining := startNode(t, node.Config{Data: filepath.Join(t.TempDir(), "two"), Name: "two", Join: []string{"127.0.0.1:1"}})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Deadline:            time.Now().Add(2 * patience),
		Setup: func(env *testscript.Env) error {
			env.Setenv("SNAKES_SERVER", serverURL)
			env.Setenv("JOINING", joining)
			env.Setenv("GORACE", goRace())
			env.Values[backgroundKey] = make(background)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "start": start, "signal": sendSignal, "await": awaitEnd, "reload": reload, "shows": shows,
			"rmdir": func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(os.Remove(ts.MkAbs(args[0]))) },
		},
	})
}

// startNode runs a node on a free port until the test has ended and returns its URL.
func startNode(t *testing.T, cfg node.Config) string {
	t.Helper()
	cfg.Version = "test"
	n, err := node.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			t.Errorf("run %s: %v", n.Name(), err)
		}
	})
	return "http://" + n.Address()
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want := number(ts, args[0]); got != want {
		ts.Fatalf("got exit code %d, want %d", got, want)
	}
}

// goRace spares every process the second for which the race detector waits at its end for other goroutines' reports.
func goRace() string { return strings.TrimSpace(os.Getenv("GORACE") + " atexit_sleep_ms=0") }

// background are the processes that a script has started, by name.
type background map[string]*process

const backgroundKey = "background"

type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed at its end

	mu     sync.Mutex // guards output
	output bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

func (p *process) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME PATTERN [VARIABLE=VALUE]... ARG...")
	}
	name, pattern, args := args[0], regexp.MustCompile(args[1]), args[2:]
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "SNAKES_") {
			env = append(env, variable)
		}
	}
	env = append(env, "GORACE="+goRace())
	for len(args) > 0 && strings.Contains(args[0], "=") {
		env, args = append(env, args[0]), args[1:]
	}
	p := &process{cmd: exec.Command("snakes", args...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = ts.MkAbs("."), env, p, p
	ts.Check(p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // the exit code says all
		close(p.done)
	}()
	ts.Defer(func() {
		_ = p.cmd.Process.Kill() // it may have ended already
		<-p.done
	})
	ts.Value(backgroundKey).(background)[name] = p
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		output := p.String()
		if groups := pattern.FindStringSubmatch(output); groups != nil {
			for i, variable := range pattern.SubexpNames() {
				if variable != "" {
					ts.Setenv(variable, groups[i])
				}
			}
			return
		}
		select {
		case <-p.done:
			ts.Fatalf("%s ended with exit code %d: %s", name, p.cmd.ProcessState.ExitCode(), p)
		default:
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s has not printed %q: %s", name, pattern, output)
		}
	}
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: signal NAME SIGNAL CODE")
	}
	p := ts.Value(backgroundKey).(background)[args[0]]
	if p == nil {
		ts.Fatalf("there is no %s", args[0])
	}
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": os.Interrupt, "HUP": syscall.SIGHUP}
	ts.Check(p.cmd.Process.Signal(signals[args[1]]))
	p.await(ts, args[0], number(ts, args[2]))
}

func awaitEnd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await NAME CODE")
	}
	p := ts.Value(backgroundKey).(background)[args[0]]
	if p == nil {
		ts.Fatalf("there is no %s", args[0])
	}
	p.await(ts, args[0], number(ts, args[1]))
}

func (p *process) await(ts *testscript.TestScript, name string, code int) {
	select {
	case <-p.done:
	case <-time.After(patience):
		ts.Fatalf("%s has not ended: %s", name, p)
	}
	fmt.Fprint(ts.Stderr(), p)
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		ts.Fatalf("got exit code %d, want %d: %s", got, code, p)
	}
}

func shows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: shows NAME PATTERN")
	}
	p, pattern := ts.Value(backgroundKey).(background)[args[0]], regexp.MustCompile(args[1])
	for deadline := time.Now().Add(patience); !pattern.MatchString(p.String()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%s has not printed %q: %s", args[0], pattern, p)
		}
	}
}

func reload(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: reload NAME PATTERN")
	}
	p := ts.Value(backgroundKey).(background)[args[0]]
	before, pattern := len(p.String()), regexp.MustCompile(args[1])
	ts.Check(p.cmd.Process.Signal(syscall.SIGHUP))
	for deadline := time.Now().Add(patience); !pattern.MatchString(p.String()[before:]); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%s has not printed %q: %s", args[0], pattern, p)
		}
	}
}

func number(ts *testscript.TestScript, text string) int {
	n, err := strconv.Atoi(text)
	ts.Check(err)
	return n
}
