package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// benchNode answers as a node does and remembers which keys it has.
type benchNode struct {
	mu   sync.Mutex
	keys map[string]bool
	gets chan struct{} // gets a signal at each GET of a key
}

func newBenchNode(t *testing.T) (*benchNode, string) {
	n := &benchNode{keys: make(map[string]bool), gets: make(chan struct{}, 1)}
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	return n, server.URL
}

func (n *benchNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Snakes-Node", "fake")
	if r.URL.Path == "/-/members" {
		_, _ = io.WriteString(w, `{"cluster":"fake","known":1,"alive":1}`)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch r.Method {
	case http.MethodPut:
		n.keys[r.URL.Path] = true
		w.WriteHeader(http.StatusCreated)
	case http.MethodDelete:
		delete(n.keys, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	default:
		select {
		case n.gets <- struct{}{}:
		default:
		}
		if !n.keys[r.URL.Path] {
			http.NotFound(w, r)
		}
	}
}

func (n *benchNode) left() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.keys)
}

// forget loses all keys.
func (n *benchNode) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.keys)
}

func runBench(ctx context.Context, server string, args ...string) (code int, stderr string) {
	var words bytes.Buffer
	p := program{
		args: append([]string{"bench", "--server", server, "--connections", "2"}, args...), getenv: func(string) string { return "" },
		stdin: strings.NewReader(""), stdout: io.Discard, stderr: &words,
	}
	return p.run(ctx), words.String()
}

func TestBenchDeletesItsKeysAfterAnInterrupt(t *testing.T) {
	n, server := newBenchNode(t)
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan struct{})
	var code int
	var stderr string
	go func() {
		defer close(done)
		code, stderr = runBench(ctx, server, "--yes", "--workload", "get", "--duration", "1h", "--keys", "50")
	}()
	<-n.gets // of the one before all keys are stored
	<-n.gets
	interrupt()
	<-done
	if code != 130 || !strings.Contains(stderr, "deleting the keys; interrupt again to leave them") {
		t.Errorf("got exit code %d, %q; want 130 and what it does", code, stderr)
	}
	if left := n.left(); left != 0 {
		t.Errorf("%d keys are left, want none", left)
	}
}

func TestBenchWithFailuresExitsWithOneAndAnExample(t *testing.T) {
	n, server := newBenchNode(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-n.gets
		<-n.gets
		n.forget()
	}()
	code, stderr := runBench(t.Context(), server, "--yes", "--workload", "get", "--duration", "1s", "--keys", "50")
	<-done
	if code != 1 || !strings.Contains(stderr, "requests failed (") || !strings.Contains(stderr, "x 404), for instance with 404: 404 page not found") {
		t.Errorf("got exit code %d, %q; want 1 and what failed", code, stderr)
	}
}

func TestBenchGoesOnOnlyAfterYes(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "Yes\n": true, " y ": true, "\n": false, "": false, "no\n": false, "yeah\n": false} {
		line, err := readLine(t.Context(), strings.NewReader(answer))
		if err != nil {
			t.Fatal(err)
		}
		if got := isYes(line); got != want {
			t.Errorf("%q: got %t, want %t", answer, got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w := io.Pipe()
	if _, err := readLine(ctx, r); !errors.Is(err, errInterrupted) {
		t.Errorf("interrupted: got %v", err)
	}
	_ = w.Close() // ends the read
}

func TestBarShowsHowFarItIsInLessThanALine(t *testing.T) {
	for done, want := range map[float64]string{
		-1:   "put     [........................................]   0 %     12345/s",
		0.5:  "put     [####################....................]  50 %     12345/s",
		0.99: "put     [#######################################.]  99 %     12345/s",
		7:    "put     [########################################] 100 %     12345/s",
	} {
		if got := bar("put", done, 12345); got != want || len(got) >= 80 {
			t.Errorf("%v:\ngot  %q\nwant %q", done, got, want)
		}
	}
}

func TestProgressIsForTerminalsOnly(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, "put")
	p.show(0.5, 1)
	p.clear()
	if out.Len() > 0 {
		t.Errorf("got %q, want nothing", out.String())
	}
	p = &progress{out: &out, name: "put"}
	p.show(0.5, 1)
	p.show(0.6, 1)
	p.clear()
	if got := out.String(); strings.Count(got, "put") != 1 || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("got %q, want one line that is cleared", got)
	}
}

func TestBenchTableIsAligned(t *testing.T) {
	report := benchReport{
		Cluster: "c", Known: 3, Alive: 2, Connections: 64, Keys: 10, Size: 16 << 10, Rate: 100,
		Results: []benchResult{
			{Workload: "put", Seconds: 9, Requests: 135000, PerSecond: 15000.4, P50: 4.1, P99: 9.25, P999: 12, Max: 30.125},
			{Workload: "mix", Seconds: 9, Requests: 9, PerSecond: 1, P50: 400, P99: 1000, P999: 1000, Max: 1000, Failures: 12},
		},
	}
	want := `cluster c: 3 known, 2 alive; 64 connections, 10 keys of 16KiB, 100 requests a second wanted
  WORKLOAD  REQUESTS/S  P50 MS   P99 MS  P99.9 MS   MAX MS  REQUESTS  FAILED
       put       15000    4.10     9.25     12.00    30.12    135000       0
       mix           1  400.00  1000.00   1000.00  1000.00         9      12
`
	if got := string(report.table()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestExamplesFromServersDoNotControlTheTerminal(t *testing.T) {
	report := benchReport{Results: []benchResult{{Workload: "put", Failures: 1, example: "503: \x1b[2Jno\n"}}}
	if err := report.failure(); err == nil || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("got %q, want an error without control characters", err)
	}
}
