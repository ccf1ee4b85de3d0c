package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

// noState is a replication.State that keeps nothing.
type noState struct{}

func (noState) LoadState(string) ([]byte, error) { return nil, fs.ErrNotExist }
func (noState) SaveState(string, []byte) error   { return nil }
func newReplica(t *testing.T) *replication.Replica {
	t.Helper()
	memory, err := replication.OpenMemory(noState{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return replication.NewReplica(new(storetest.Memory), memory, version.NewClock(nil, version.Timestamp{}), 1, nil)
}

// change writes the n-th of all versions of key, a tombstone if deleted.
func change(t *testing.T, r *replication.Replica, n uint64, key string, deleted bool) {
	t.Helper()
	if out := r.Write([]replication.Record{{Key: key, Version: someVersion(n), Deleted: deleted}}); out[0].Err != nil {
		t.Fatal(out[0].Err)
	}
}

// sse is a server-sent event as it came, or what has no name but an id.
type sse struct{ name, id, data string }

func (e sse) String() string { return e.name + " " + e.data }

// reader reads a stream of events.
type reader struct {
	t      *testing.T
	answer *http.Response
	lines  *bufio.Reader
	beats  int
}

// open asks a node for a stream, from a marker unless that is empty.
func (n *testNode) open(ctx context.Context, path, marker string) *reader {
	n.t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+n.address+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if marker != "" {
		r.Header.Set(headerLastEvent, marker)
	}
	answer, err := n.client.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { answer.Body.Close() })
	if got := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || got != "text/event-stream" {
		n.t.Fatalf("GET %s: got %d, %s", path, answer.StatusCode, got)
	}
	return &reader{t: n.t, answer: answer, lines: bufio.NewReader(answer.Body)}
}

// next returns the next event. ok is false at the end of the stream.
func (r *reader) next() (e sse, ok bool) {
	r.t.Helper()
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return sse{}, false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		case ":":
			r.beats++
		case "":
			if e != (sse{}) {
				return e, true
			}
		}
	}
}

func (r *reader) want(want string) sse {
	r.t.Helper()
	e, ok := r.next()
	if !ok || e.String() != want || e.id == "" {
		r.t.Fatalf("got event %q with id %q, want %s", e, e.id, want)
	}
	return e
}

func eventData(key string, n uint64) string {
	b, _ := json.Marshal(watched{key, etag(someVersion(n))})
	return string(b)
}

func TestWatchIsAStreamOfEventsThatGoesOnAtAnyNode(t *testing.T) {
	one, other := newReplica(t), newReplica(t)
	for _, r := range []*replication.Replica{one, other} {
		change(t, r, 1, "before", false)
	}
	config, _ := fakes()
	config.Replica = one
	ctx := within(t, time.Minute)
	r := start(t, config).open(ctx, "/-/watch?prefix=us", "")
	r.want(`start {"node":"node-a"}`)
	change(t, one, 2, "user", false)
	r.want("put " + eventData("user", 2))
	change(t, one, 3, "other", false)
	change(t, one, 4, "user", true)
	last := r.want("delete " + eventData("user", 4))

	for n, deleted := range map[uint64]bool{2: false, 4: true, 5: false} {
		change(t, other, n, map[bool]string{true: "user", false: fmt.Sprint("us", n)}[deleted], deleted)
	}
	change(t, other, 3, "other", false)
	config.Replica, config.Name = other, "node-b"
	config.Self = idB
	r = start(t, config).open(ctx, "/-/watch?prefix=us", last.id)
	r.want("put " + eventData("us5", 5))
}

func TestWatchFromTheBeginningIsAResetAndTheCurrentState(t *testing.T) {
	replica := newReplica(t)
	change(t, replica, 1, "foo", false)
	change(t, replica, 2, "gone", true)
	config, _ := fakes()
	config.Replica = replica
	r := start(t, config).open(within(t, time.Minute), "/-/watch", beginning)
	if e := r.want(`reset {"reason":"from the beginning"}`); e.id != beginning {
		t.Errorf("marker of a reset: got %q, want %q: whoever goes on from it begins anew", e.id, beginning)
	}
	r.want("put " + eventData("foo", 1))
	change(t, replica, 3, "foo", true)
	r.want("delete " + eventData("foo", 3))
}

func TestWatchAtRestSendsHeartbeatsAndMarkers(t *testing.T) {
	replica := newReplica(t)
	config, _ := fakes()
	config.Replica, config.Heartbeat = replica, 20*time.Millisecond
	r := start(t, config).open(within(t, time.Minute), "/-/watch?prefix=us", "")
	first := r.want(`start {"node":"node-a"}`)
	change(t, replica, 1, "other", false) // of no key that is watched, but the marker goes on
	e, ok := r.next()
	if !ok || e.name != "" || e.data != "" || e.id == "" || e.id == first.id || r.beats == 0 {
		t.Errorf("got event %q with id %q after %d heartbeats, want a marker alone", e, e.id, r.beats)
	}
	told, err := markerIn(http.Header{headerLastEvent: {e.id}})
	if err != nil || !told.Has(someVersion(1).Dot) {
		t.Errorf("marker: got %v, error %v", told, err)
	}
}

func TestStreamsEndWhenTheNodeStops(t *testing.T) {
	closing, stop := context.WithCancel(t.Context())
	config, _ := fakes()
	config.Replica = newReplica(t)
	config.WhenClosing = func(f func()) func() bool { return context.AfterFunc(closing, f) }
	r := start(t, config).open(within(t, time.Minute), "/-/watch", "")
	r.want(`start {"node":"node-a"}`)
	stop()
	if e, ok := r.next(); ok {
		t.Errorf("got event %q, want the end", e)
	}
}

// A reader that takes nothing is cut off, whatever the kernel buffers for it.
func TestReaderThatTakesNothingIsCutOff(t *testing.T) {
	replica := newReplica(t)
	var mu sync.Mutex
	var log strings.Builder
	config, _ := fakes()
	config.Replica, config.Stall = replica, 200*time.Millisecond
	config.Log = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: &log, Mutex: &mu})
	c := start(t, config).dial()
	c.send("GET /-/watch HTTP/1.1\r\nHost: x\r\n\r\n")
	ended := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(log.String(), "path=/-/watch")
	}
	deadline := time.Now().Add(30 * time.Second)
	for n := uint64(1); !ended(); {
		if time.Now().After(deadline) {
			t.Fatal("the stream goes on")
		}
		var batch []replication.Record
		for range 1000 {
			batch = append(batch, replication.Record{Key: fmt.Sprintf("k%0200d", n%1000), Version: someVersion(n)})
			n++
		}
		replica.Write(batch)
		time.Sleep(time.Millisecond)
	}
}

func TestWatchRefusesWhatMakesNoSense(t *testing.T) {
	config, _ := fakes()
	config.Replica = &fakeReplica{watch: func(string, *seen.Set) (*replication.Watch, error) { return nil, replication.ErrNotReady }}
	n := start(t, config)
	if a := n.ask("GET", "/-/watch?prefix=a-b", ""); a.StatusCode != 400 || a.code(t) != "bad-parameter" {
		t.Errorf("bad prefix: got %d", a.StatusCode)
	}
	for _, marker := range []string{"1", "x", "AAAA", "AAAAAAAA", "%", markerText(seen.Of(someVersion(1).Dot))[:10]} {
		if a := n.ask("GET", "/-/watch", "", headerLastEvent, marker); a.StatusCode != 400 || a.code(t) != "bad-header" {
			t.Errorf("marker %q: got %d, want 400 bad-header", marker, a.StatusCode)
		}
	}
	if a := n.ask("GET", "/-/watch", ""); a.StatusCode != 503 || a.code(t) != "not-ready" {
		t.Errorf("not synced: got %d, want 503 not-ready", a.StatusCode)
	}
}

func TestMarkersComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSet(t, "told")
		if want == nil {
			want = new(seen.Set)
		}
		got, err := markerIn(http.Header{headerLastEvent: {markerText(want)}})
		if err != nil || !got.Equal(want) {
			t.Fatalf("got %v, error %v, want %v", got, err, want)
		}
	})
	if got, err := markerIn(http.Header{}); got != nil || err != nil {
		t.Errorf("without a marker: got %v, %v, want none", got, err)
	}
}
