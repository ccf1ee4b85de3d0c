package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication"
)

// lines collects what a JSON logger writes.
type lines struct {
	mu     sync.Mutex // guards buffer
	buffer bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(b)
}

// take returns the lines so far and forgets them.
func (l *lines) take(t *testing.T) (taken []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.buffer.Bytes()) {
		var facts map[string]any
		if err := json.Unmarshal(line, &facts); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		taken = append(taken, facts)
	}
	l.buffer.Reset()
	return taken
}

func logged(level hclog.Level) (*lines, hclog.Logger) {
	l := new(lines)
	return l, hclog.New(&hclog.LoggerOptions{Output: l, Level: level, JSONFormat: true})
}

func TestEveryAnswerHasARequestID(t *testing.T) {
	config, _ := fakes()
	n := start(t, config)
	for _, path := range []string{"/foo", "/a-b", "/-/nothing", "/-/members"} {
		first, second := n.ask("GET", path, ""), n.ask("GET", path, "")
		if a, b := first.Header.Get("X-Request-Id"), second.Header.Get("X-Request-Id"); len(a) != 16 || len(b) != 16 || a == b {
			t.Errorf("GET %s twice: got request ids %q and %q, want two of 16 digits", path, a, b)
		}
	}
	for sent, kept := range map[string]bool{
		"abc-DEF_1.2:3": true, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false, "a b": false, `a"b`: false, "\u00e4": false,
	} {
		got := n.ask("GET", "/foo", "", "X-Request-Id", sent).Header.Get("X-Request-Id")
		if (got == sent) != kept {
			t.Errorf("request id %q: got %q, want it kept: %v", sent, got, kept)
		}
	}
}

func TestAPanicAnswers500AndIsLogged(t *testing.T) {
	config, coordinator := fakes()
	coordinator.get = func(string, replication.Level) (replication.Record, replication.Receipt, error) {
		panic("secret")
	}
	log, logger := logged(hclog.Error)
	config.Log = logger
	n := start(t, config)
	a := n.ask("GET", "/foo", "")
	if a.StatusCode != 500 || a.code(t) != "internal" || strings.Contains(a.text, "secret") || strings.Contains(a.text, ".go:") {
		t.Errorf("got %d %s, want 500 internal and no word of the panic", a.StatusCode, a.text)
	}
	got := log.take(t)
	if len(got) == 0 || got[0]["panic"] != "secret" || got[0]["request_id"] != a.Header.Get("X-Request-Id") {
		t.Errorf("log: got %v, want the panic and the request id", got)
	}

	coordinator.get = func(string, replication.Level) (replication.Record, replication.Receipt, error) {
		panic(http.ErrAbortHandler)
	}
	c := n.dial()
	c.send("GET /foo HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := c.reader.ReadByte(); err != io.EOF {
		t.Errorf("aborted: got %v, want the connection closed without an answer", err)
	}
}

// TestAPanicWithinAnAnswerCutsIt: what was sent so far must not pass for the whole.
func TestAPanicWithinAnAnswerCutsIt(t *testing.T) {
	config, _ := fakes()
	a := newAPI(config)
	w := &response{ResponseWriter: httptest.NewRecorder()}
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("got %v, want the connection to be aborted", got)
		}
	}()
	defer a.finish(w, httptest.NewRequest("GET", "/foo", nil), time.Now())
	w.WriteHeader(200)
	panic("secret")
}

func TestRequestsAreLoggedOnceByTheirWeight(t *testing.T) {
	config, coordinator := fakes()
	var fails error
	coordinator.get = func(string, replication.Level) (replication.Record, replication.Receipt, error) {
		return replication.Record{Version: someVersion(1), Value: []byte("12345")}, replication.Receipt{N: 1}, fails
	}
	coordinator.writable = func() error { return replication.ErrNotReady }
	untyped := errors.New("open /data/x: no such file")
	for _, row := range []struct {
		path  string
		fails error
		level hclog.Level // of the logger
		want  string      // level of the line, empty for none
		shows bool        // path
	}{
		{"/foo", nil, hclog.Debug, "debug", true},
		{"/foo", nil, hclog.Info, "", false},
		{"/foo", replication.ErrNotFound, hclog.Debug, "debug", true},
		{"/foo", replication.ErrNotFound, hclog.Info, "", false},
		{"/foo", replication.ErrNotReady, hclog.Info, "warn", false},
		{"/foo", replication.ErrNotReady, hclog.Debug, "warn", true},
		{"/foo", replication.ErrNotReady, hclog.Error, "", false},
		{"/foo", untyped, hclog.Error, "error", false},
		{"/foo", untyped, hclog.Off, "", false},
		{"/-/ready", nil, hclog.Info, "", false},
		{"/-/ready", nil, hclog.Debug, "debug", true},
	} {
		t.Run(fmt.Sprint(row.path, " ", row.fails, " at ", row.level), func(t *testing.T) {
			log, logger := logged(row.level)
			config.Log, fails = logger, row.fails
			n := start(t, config)
			a := n.ask("GET", row.path, "")
			var got []map[string]any
			for _, line := range log.take(t) {
				if line["request_id"] == a.Header.Get("X-Request-Id") {
					got = append(got, line)
				}
			}
			if row.want == "" {
				if len(got) != 0 {
					t.Errorf("got %v, want no line", got)
				}
				return
			}
			if len(got) != 1 || got[0]["@level"] != row.want || got[0]["@message"] != "request" || got[0]["status"] != float64(a.StatusCode) {
				t.Fatalf("got %v, want one line at %s", got, row.want)
			}
			if _, shows := got[0]["path"]; shows != row.shows {
				t.Errorf("got %v, want the path shown: %v", got[0], row.shows)
			}
			if row.fails != nil && !strings.Contains(fmt.Sprint(got[0]["error"]), row.fails.Error()) {
				t.Errorf("got %v, want the error %q", got[0], row.fails)
			}
		})
	}
}

func TestHeadersBeyondTheLimitAreRefused(t *testing.T) {
	config, _ := fakes()
	n := start(t, config)
	if a := n.raw("GET /foo HTTP/1.1", "X-Large: "+strings.Repeat("x", 2*maxHeader)); a.StatusCode != 431 {
		t.Errorf("got %d, want 431", a.StatusCode)
	}
}

func TestFewLinesASecondSayThatRequestsAreSlow(t *testing.T) {
	var r lineRate
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for second := range 3 {
		admitted := 0
		for range 1000 {
			if r.admit(at.Add(time.Duration(second) * time.Second)) {
				admitted++
			}
		}
		if admitted != maxSlowLines {
			t.Errorf("second %d: %d lines, want %d", second, admitted, maxSlowLines)
		}
	}
}
