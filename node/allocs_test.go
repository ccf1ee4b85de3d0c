package node

import (
	"bytes"
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication"
)

func TestRequestsAreNotLoggedWhereTheLogIsOff(t *testing.T) {
	config, _ := fakes()
	config.Log = hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: new(bytes.Buffer)})
	a := newAPI(config)
	r, err := http.NewRequest("GET", "/foo", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &response{ResponseWriter: &sink{header: make(http.Header)}, status: 200}
	started := time.Now()
	if got := testing.AllocsPerRun(100, func() { a.logRequest(w, r, started) }); got != 0 {
		t.Errorf("a request that is not logged costs %v allocations, want none", got)
	}
}

// TestAnAnswerAllocatesLittle counts what is between net/http and the coordinator: the router takes
// three, the answer its id, ETag, time, acks, length and itself, the body its bytes.
func TestAnAnswerAllocatesLittle(t *testing.T) {
	config, _ := fakes()
	config.Coordinator = newMemory()
	if _, err := config.Coordinator.Put(context.Background(), "foo", make([]byte, 256), "a/b", replication.LevelDefault); err != nil {
		t.Fatal(err)
	}
	api := newAPI(config)
	w := &sink{header: make(http.Header)}
	for _, row := range []struct {
		method, target string
		body           []byte
		most           float64
	}{
		{"GET", "/foo", nil, 11},
		{"GET", "/foo?r=1", nil, 11},
		{"PUT", "/foo?w=3", make([]byte, 256), 15},
	} {
		body := bytes.NewReader(row.body)
		r, err := http.NewRequest(row.method, row.target, body)
		if err != nil {
			t.Fatal(err)
		}
		r.RequestURI = row.target
		if row.body != nil {
			r.Header.Set("Content-Length", "256")
			r.Header.Set("Content-Type", formType)
		}
		got := testing.AllocsPerRun(100, func() {
			body.Reset(row.body)
			clear(w.header)
			api.ServeHTTP(w, r)
		})
		if got > row.most {
			t.Errorf("%s %s: %v allocations, want at most %v", row.method, row.target, got, row.most)
		}
	}
}
