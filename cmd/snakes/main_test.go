package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// result is what one run in this process ended with.
type result struct {
	code           int
	stdout, stderr string
}

// runHere runs the command in this process, with nothing in the environment.
func runHere(ctx context.Context, stdin io.Reader, args ...string) result {
	var stdout, stderr bytes.Buffer
	p := program{args: args, getenv: func(string) string { return "" }, stdin: stdin, stdout: &stdout, stderr: &stderr}
	code := p.run(ctx)
	return result{code, stdout.String(), stderr.String()}
}

// fake runs a server that answers like a node where h does not say otherwise, and returns its URL.
func fake(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Snakes-Node", "a")
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestExitCodesTellErrorsApart(t *testing.T) {
	for _, test := range []struct {
		status int
		code   string
		want   int
	}{
		{400, "bad-key", 2},
		{400, "bad-parameter", 2},
		{400, "bad-header", 2},
		{401, "unauthorized", 1},
		{404, "not-found", 3},
		{408, "timeout", 1},
		{412, "precondition-failed", 6},
		{413, "too-large", 1},
		{500, "internal", 1},
		{503, "quorum", 4},
		{503, "not-ready", 4},
		{503, "overloaded", 4},
		{507, "disk-full", 1},
	} {
		body := fmt.Sprintf(`{"type":"urn:snakes:error:%s","title":"Title","detail":"Do this.","node":"a","request_id":"r1"}`+"\n", test.code)
		url := fake(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(test.status)
			fmt.Fprint(w, body)
		})
		for _, command := range [][]string{{"get", "foo"}, {"put", "foo", "bar"}, {"delete", "foo"}, {"members"}, {"inspect", "foo"}} {
			got := runHere(t.Context(), nil, append(command, "--server", url)...)
			if got.code != test.want || got.stdout != "" || !strings.Contains(got.stderr, "Do this. (node a, request r1)") {
				t.Errorf("%s answered with %s: got %+v, want exit code %d and the detail", command[0], test.code, got, test.want)
			}
			got = runHere(t.Context(), nil, append(command, "--server", url, "-o", "json")...)
			if got.code != test.want || got.stdout != "" || got.stderr != body {
				t.Errorf("%s -o json answered with %s: got %+v, want exit code %d and the answer", command[0], test.code, got, test.want)
			}
		}
	}
}

func TestAnswersOfAnotherServerAreNoKeysAndNoValues(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") }))
	t.Cleanup(page.Close)
	for _, url := range []string{s.URL, page.URL} {
		for _, output := range []string{"table", "json"} {
			got := runHere(t.Context(), nil, "get", "foo", "-o", output, "--server", url)
			if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "not from a snakes node") {
				t.Errorf("get -o %s: got %+v, want exit code 1 and a word on who answers", output, got)
			}
		}
	}
}

func TestGetWritesExactlyTheBytes(t *testing.T) {
	want := "\x00\xff\r\n no newline"
	url := fake(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, want) })
	if got := runHere(t.Context(), nil, "get", "foo", "--server", url); got != (result{stdout: want}) {
		t.Errorf("got %+v, want %q on standard output alone", got, want)
	}
}

func TestWriteTellsOfMembersThatHadNoPart(t *testing.T) {
	url := fake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Snakes-Acks", "2/3; missing=node-c")
		w.WriteHeader(map[string]int{http.MethodPut: http.StatusCreated, http.MethodDelete: http.StatusNoContent}[r.Method])
	})
	for _, command := range [][]string{{"put", "foo", "bar"}, {"delete", "foo"}} {
		got := runHere(t.Context(), nil, append(command, "--server", url)...)
		if got != (result{stderr: "done by 2 of 3 members; missing: node-c\n"}) {
			t.Errorf("%s: got %+v, want success and a word on node-c", command[0], got)
		}
	}
}

func TestNothingIsSentOfInputThatFails(t *testing.T) {
	url := fake(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("got request %s %s", r.Method, r.URL) })
	half := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrClosedPipe))
	got := runHere(t.Context(), half, "put", "foo", "--server", url)
	if got.code != 1 || !strings.Contains(got.stderr, "read standard input") {
		t.Errorf("got %+v, want exit code 1 and what failed", got)
	}
}

func TestInputIsBounded(t *testing.T) {
	for size, ok := range map[int]bool{9: true, 10: true, 11: false} {
		data, err := readInput(t.Context(), strings.NewReader(strings.Repeat("x", size)), 10)
		if ok != (err == nil) || ok && len(data) != size {
			t.Errorf("%d bytes with a limit of 10: got %d bytes, error %v", size, len(data), err)
		}
	}
}

func TestInterruptEndsWhateverAClientWaitsFor(t *testing.T) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	url := fake(t, func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; <-release })
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if got := runHere(ctx, nil, "get", "foo", "--server", url); got != (result{130, "", "snakes: interrupted\n"}) {
		t.Errorf("interrupted while it waits for the answer: got %+v, want exit code 130", got)
	}

	in, writer := io.Pipe()
	t.Cleanup(func() { _ = writer.Close() }) // ends the read; it returns nil always
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		_, _ = io.WriteString(writer, "x") // returns once the command reads
		cancel()
	}()
	if got := runHere(ctx, in, "put", "foo", "--server", url); got != (result{130, "", "snakes: interrupted\n"}) {
		t.Errorf("interrupted while it reads its input: got %+v, want exit code 130", got)
	}
}

func TestTimeoutIsNoAnswer(t *testing.T) {
	release := make(chan struct{})
	url := fake(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	got := runHere(t.Context(), nil, "get", "foo", "--server", url, "--timeout", "20ms")
	if want := fmt.Sprintf("snakes: get \"foo\": no server answered: %s: no answer within --timeout 20ms\n", url); got != (result{5, "", want}) {
		t.Errorf("got %+v, want exit code 5 and %q", got, want)
	}
}

func TestWriteWithoutAnAnswerMayHaveBeenDone(t *testing.T) {
	release := make(chan struct{})
	silent := fake(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	for _, test := range []struct {
		args []string
		url  string
		done bool
	}{
		{[]string{"put", "foo", "bar"}, silent, true},
		{[]string{"delete", "foo"}, silent, true},
		{[]string{"put", "foo", "bar"}, "http://127.0.0.1:1", false},
		{[]string{"put", "foo", "bar"}, silent + ",http://127.0.0.1:1", true},
		{[]string{"get", "foo"}, silent, false},
	} {
		got := runHere(t.Context(), nil, append(test.args, "--server", test.url, "--timeout", "50ms")...)
		if got.code != 5 || strings.Contains(got.stderr, "may have done it") != test.done {
			t.Errorf("%v at %s: got %+v, want exit code 5 and that it may have been done: %v", test.args, test.url, got, test.done)
		}
	}
}

func TestTimeoutOfZeroWaitsForTheAnswer(t *testing.T) {
	url := fake(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "bar") })
	if got := runHere(t.Context(), nil, "get", "foo", "--server", url, "--timeout", "0"); got != (result{stdout: "bar"}) {
		t.Errorf("got %+v, want the value", got)
	}
}

func TestOutputThatFailsIsAnError(t *testing.T) {
	url := fake(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "bar") })
	var stderr bytes.Buffer
	p := program{
		args: []string{"get", "foo", "--server", url}, getenv: func(string) string { return "" },
		stdout: failingWriter{}, stderr: &stderr,
	}
	if code := p.run(t.Context()); code != 1 || !strings.Contains(stderr.String(), "write to standard output") {
		t.Errorf("got exit code %d, %q; want 1 and what failed", code, stderr.String())
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestDemoTakesFreePortsWhenOneIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("TMP", tmp) // where TMPDIR means nothing

	// The second port is the one that is taken.
	first := l.Addr().(*net.TCPAddr).Port - 1
	ctx, cancel := context.WithCancel(t.Context())
	stdout := &trigger{word: "Try", f: cancel}
	var stderr bytes.Buffer
	p := program{
		args:   []string{"demo", "--nodes", "2", "--port", strconv.Itoa(first), "--log-level", "error"},
		getenv: func(string) string { return "" }, stdout: stdout, stderr: &stderr,
	}
	if code := p.run(ctx); code != 0 {
		t.Errorf("got exit code %d, %s", code, stderr.String())
	}
	if !strings.HasPrefix(stderr.String(), "Using free ports: ") {
		t.Errorf("got %q, want it to say that it uses free ports", stderr.String())
	}
	if text := stdout.String(); !strings.HasPrefix(text, "2 nodes are running") || strings.Contains(text, fmt.Sprintf(":%d", first)) {
		t.Errorf("got %q, want two nodes on other ports", text)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("got %v, %v left in the temporary directory, want nothing", left, err)
	}
}

// trigger calls f once when word is written.
type trigger struct {
	bytes.Buffer
	word string
	f    func()
	done atomic.Bool
}

func (w *trigger) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.word) && w.done.CompareAndSwap(false, true) {
		w.f()
	}
	return w.Buffer.Write(b)
}

func TestDemoThatIsInterruptedAtItsStartLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("TMP", tmp)
	for _, after := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		got := runHere(ctx, nil, "demo", "--port", "0")
		cancel()
		left, err := os.ReadDir(tmp)
		if got.code != 0 || err != nil || len(left) > 0 {
			t.Errorf("interrupted after %v: got %+v and %v, %v left; want nothing", after, got, left, err)
		}
	}
}
