package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// far is a node that others ask, over sockets. Requests wait at its gate unless that is open.
type far struct {
	address  string
	replica  *fakeReplica
	roster   *fakeRoster
	requests atomic.Int64
	opened   atomic.Int64 // connections
	gate     chan struct{}
	open     func()       // the gate
	waiting  atomic.Int64 // requests at the gate
}

func newFar(t *testing.T, id string) *far {
	t.Helper()
	config, _ := fakes()
	config.Self = id
	f := &far{replica: config.Replica.(*fakeReplica), roster: config.Roster.(*fakeRoster), gate: make(chan struct{})}
	f.open = sync.OnceFunc(func() { close(f.gate) })
	f.replica.write = func(records []replication.Record) []replication.Outcome {
		outcomes := make([]replication.Outcome, len(records))
		for i, r := range records {
			outcomes[i].Current = r.Meta()
		}
		return outcomes
	}
	f.replica.lookup = func(string) (replication.Meta, error) { return replication.Meta{Version: someVersion(1)}, nil }
	handler := newAPI(config)
	server := httptest.NewUnstartedServer(nil)
	server.Config = newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		f.waiting.Add(1)
		<-f.gate
		f.waiting.Add(-1)
		handler.ServeHTTP(w, r)
	}), nil)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			f.opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(f.open)
	f.address = server.Listener.Addr().String()
	return f
}

// askerOf returns the asking side of node A, to which the given nodes are known.
func askerOf(t *testing.T, nodes map[string]*far) *peers {
	t.Helper()
	p := newPeers(peersConfig{
		Hello: func() membership.Hello {
			return membership.Hello{ID: idA, ClusterID: "c1", Address: "127.0.0.1:9000", Origin: 0xa}
		},
		Addresses: func(id string) (string, bool) { return nodes[id].address, true },
		Roster:    &fakeNews{stamp: "s1"},
		Clock:     version.NewClock(nil, version.Timestamp{}),
	})
	t.Cleanup(p.Close)
	return p
}

// until waits for a state that comes soon.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after 20s", what)
		}
	}
}

// queued returns how many writes and look-ups wait for node id.
func (p *peers) queued(id string) (writes, lookups int) {
	l, err := p.enter(id)
	if err != nil {
		return 0, 0
	}
	defer p.running.Done()
	for _, lane := range []struct {
		mu *sync.Mutex
		n  *int
		of func() int
	}{
		{&l.writes.mu, &writes, func() int { return len(l.writes.queue) }},
		{&l.lookups.mu, &lookups, func() int { return len(l.lookups.queue) }},
	} {
		lane.mu.Lock()
		*lane.n = lane.of()
		lane.mu.Unlock()
	}
	return writes, lookups
}

func recordOf(i int) replication.Record {
	return replication.Record{Key: fmt.Sprintf("key%d", i), Version: someVersion(uint64(i + 1)), ContentType: "a/b", Value: []byte("value")}
}

func TestWritesToABusyNodeShareARequestAndAnApply(t *testing.T) {
	b := newFar(t, idB)
	p := askerOf(t, map[string]*far{idB: b})
	write := b.replica.write
	var mu sync.Mutex
	var applied []int
	b.replica.write = func(records []replication.Record) []replication.Outcome {
		mu.Lock()
		defer mu.Unlock()
		applied = append(applied, len(records))
		outcomes := write(records)
		for i, r := range records {
			if strings.HasSuffix(r.Key, "7") {
				outcomes[i] = replication.Outcome{Err: fmt.Errorf("write: %w", replication.ErrDiskFull)}
			}
		}
		return outcomes
	}
	const writes = 50
	var calls sync.WaitGroup
	for i := range writes {
		calls.Go(func() {
			r := recordOf(i)
			outcomes, err := p.Write(t.Context(), idB, []replication.Record{r})
			full := strings.HasSuffix(r.Key, "7")
			if err != nil || len(outcomes) != 1 || errors.Is(outcomes[0].Err, replication.ErrDiskFull) != full || !full && outcomes[0].Current != r.Meta() {
				t.Errorf("%s: got %v, %v, want its own outcome", r.Key, outcomes, err)
			}
		})
	}
	until(t, "one write on its way, all others wait", func() bool {
		queued, _ := p.queued(idB)
		return queued == writes-1 && b.waiting.Load() == 1
	})
	b.open()
	calls.Wait()
	if got, want := b.requests.Load(), int64(2); got != want {
		t.Errorf("%d requests, want %d", got, want)
	}
	if want := []int{1, writes - 1}; !slices.Equal(applied, want) {
		t.Errorf("records applied at once: %v, want %v", applied, want)
	}
}

func TestLookupsToABusyNodeShareARequest(t *testing.T) {
	b := newFar(t, idB)
	p := askerOf(t, map[string]*far{idB: b})
	outcomes := map[string]replication.Outcome{
		"found":   {Current: replication.Meta{Version: someVersion(7), Size: 3}},
		"deleted": {Current: replication.Meta{Version: someVersion(8), Deleted: true}},
		"absent":  {Err: replication.ErrNotFound},
		"damaged": {Err: fmt.Errorf("read: %w", replication.ErrDamaged)},
		"lagging": {Err: fmt.Errorf("%w: it has not caught up", replication.ErrNotReady)},
	}
	b.replica.lookup = func(key string) (replication.Meta, error) {
		return outcomes[key].Current, outcomes[key].Err
	}
	var calls sync.WaitGroup
	calls.Go(func() { p.Lookup(t.Context(), idB, "found") })
	until(t, "a look-up is on its way", func() bool { return b.waiting.Load() == 1 })
	for range 10 {
		for key, want := range outcomes {
			calls.Go(func() {
				meta, err := p.Lookup(t.Context(), idB, key)
				if meta != want.Current || (err == nil) != (want.Err == nil) {
					t.Errorf("%s: got %v, %v, want %v, %v", key, meta, err, want.Current, want.Err)
				}
				for _, cause := range []error{replication.ErrNotFound, replication.ErrDamaged, replication.ErrNotReady} {
					if errors.Is(err, cause) != errors.Is(want.Err, cause) {
						t.Errorf("%s: got %v, want %v", key, err, want.Err)
					}
				}
			})
		}
	}
	until(t, "all others wait", func() bool { _, queued := p.queued(idB); return queued == 10*len(outcomes) })
	b.open()
	calls.Wait()
	if got, want := b.requests.Load(), int64(2); got != want {
		t.Errorf("%d requests, want %d", got, want)
	}
}

// What one node does not answer, or answers late, is no concern of what goes to others, and writes hold
// up no look-ups.
func TestAFrozenNodeAndLargeValuesHoldUpNothingElse(t *testing.T) {
	frozen, fine := newFar(t, idB), newFar(t, idC)
	fine.open()
	p := askerOf(t, map[string]*far{idB: frozen, idC: fine})
	ctx, thaw := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	defer calls.Wait()
	defer thaw()
	for i := range 20 {
		calls.Go(func() { p.Write(ctx, idB, []replication.Record{recordOf(i)}) })
	}
	until(t, "one write is on its way, others wait", func() bool {
		queued, _ := p.queued(idB)
		return queued == 19 && frozen.waiting.Load() == 1
	})
	for i := range 20 {
		if _, err := p.Write(within(t, 10*time.Second), idC, []replication.Record{recordOf(i)}); err != nil {
			t.Fatalf("write to a node beside one that is frozen: %v", err)
		}
	}
	calls.Go(func() { p.Lookup(ctx, idB, "foo") })
	until(t, "a look-up leaves though a write is on its way", func() bool { return frozen.waiting.Load() == 2 })
	if queued, _ := p.queued(idB); queued != 19 {
		t.Errorf("%d writes wait, want the 19 from before: else this shows nothing", queued)
	}
}

func TestAnAnswerThatMakesNoSenseIsAnErrorForTheWholeBatch(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nSnakes-Protocol: 1\r\nSnakes-From: " + idB + "\r\nContent-Type: " + peerType + "\r\n"
	outcome := replication.Outcome{Current: replication.Meta{Version: someVersion(1)}}
	answer := func(n int) []byte {
		return appendText(appendOutcomes(nil, slices.Repeat([]replication.Outcome{outcome}, n)), "")
	}
	for name, body := range map[string][]byte{
		"none for three":   answer(0),
		"two for three":    answer(2),
		"four for three":   answer(4),
		"claims too many":  append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, answer(3)...),
		"cut":              answer(3)[:70],
		"too long":         append(answer(3), 0),
		"length of a name": slices.Concat([]byte{3, 0xff, 0xff, 0x7f}, answer(3)[2:]),
		"odd flags":        slices.Concat(answer(3)[:2+version.Size], []byte{0xff}, answer(3)[3+version.Size:]),
		"empty":            {},
	} {
		p := asker(t, serveRaw(t, fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)))
		link := p.asking.newLink(idB)
		ctx := within(t, 10*time.Second)
		writes, err := link.writes.carry(ctx, [][]replication.Record{{recordOf(1)}, {recordOf(2)}, {recordOf(3)}})
		if writes != nil || !errors.Is(err, errBadMessage) {
			t.Errorf("%s: writes got %v, %v, want errBadMessage", name, writes, err)
		}
		lookups, err := link.lookups.carry(ctx, []string{"a", "b", "c"})
		if lookups != nil || !errors.Is(err, errBadMessage) {
			t.Errorf("%s: look-ups got %v, %v, want errBadMessage", name, lookups, err)
		}
	}
}

func TestFewConnectionsCarryManyRequests(t *testing.T) {
	b := newFar(t, idB)
	b.open()
	p := askerOf(t, map[string]*far{idB: b})
	var calls sync.WaitGroup
	for c := range 64 {
		calls.Go(func() {
			for i := range 30 {
				if _, err := p.Write(t.Context(), idB, []replication.Record{recordOf(64*i + c)}); err != nil {
					t.Errorf("write: %v", err)
				}
				if _, err := p.Lookup(t.Context(), idB, "foo"); err != nil {
					t.Errorf("look-up: %v", err)
				}
			}
		})
	}
	calls.Wait()
	// One for writes and one for look-ups, and as many that were dialled while another became free.
	if got, most := b.opened.Load(), int64(4); got > most {
		t.Errorf("%d connections were opened, want %d at most", got, most)
	}
	if got, calls := b.requests.Load(), int64(2*64*30); got > calls/2 {
		t.Errorf("%d requests for %d calls, want far fewer", got, calls)
	}
}

func TestCallsAfterCloseFailAndThoseBeforeEnd(t *testing.T) {
	b := newFar(t, idB)
	p := askerOf(t, map[string]*far{idB: b})
	var calls sync.WaitGroup
	for i := range 3 {
		calls.Go(func() {
			if _, err := p.Write(t.Context(), idB, []replication.Record{recordOf(i)}); !errors.Is(err, context.Canceled) {
				t.Errorf("call before Close: got %v, want context.Canceled", err)
			}
		})
	}
	until(t, "all are under way", func() bool {
		queued, _ := p.queued(idB)
		return queued == 2 && b.waiting.Load() == 1
	})
	p.Close()
	calls.Wait()
	if _, err := p.Lookup(t.Context(), idB, "foo"); !errors.Is(err, errPeersClosed) {
		t.Errorf("call after Close: got %v, want errPeersClosed", err)
	}
}

func TestARequestTellsWhoAsksAsOfNow(t *testing.T) {
	b := newFar(t, idB)
	b.open()
	p := askerOf(t, map[string]*far{idB: b})
	hello := p.Hello()
	p.Hello = func() membership.Hello { return hello }
	var told membership.Hello
	b.roster.admit = func(h membership.Hello) error { told = h; return nil }
	b.roster.stamp = func() string { return "s2" }
	news := p.Roster.(*fakeNews)
	for name, change := range map[string]func(){
		"nothing":     func() {},
		"its cluster": func() { hello.ClusterID = "c2" },
		"its address": func() { hello.Address = "127.0.0.1:9009" },
	} {
		change()
		for range 2 { // the second time, all is as it was
			if _, err := p.Lookup(t.Context(), idB, "foo"); err != nil || told != hello {
				t.Errorf("%s has changed: got %v, %+v, want %+v", name, err, told, hello)
			}
		}
	}
	news.merged, news.stamp = nil, "s2"
	if _, err := p.Lookup(t.Context(), idB, "foo"); err != nil || len(news.merged) > 0 {
		t.Errorf("the roster is the same now: got %v with %q merged, want nothing", err, news.merged)
	}
}
