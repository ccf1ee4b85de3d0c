package node

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
)

func TestAGateLetsInWhatFitsInTheOrderOfComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2)
		var order []int
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if err := g.enter(t.Context(), 1); err != nil {
					t.Errorf("visitor %d: %v", i, err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(100 * time.Millisecond)
				g.leave(1)
			})
		}
		all.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("let in %v, want the first who came first", order)
			}
		}
	})
}

func TestAGateRefusesWhomItLetsWaitTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(10)
		if err := g.enter(t.Context(), 1<<40); err != nil { // all of it
			t.Fatal(err)
		}
		began := time.Now()
		if err := g.enter(t.Context(), 1); !errors.Is(err, errOverloaded) || time.Since(began) != gateTime {
			t.Errorf("full: got %v after %v, want overloaded after %v", err, time.Since(began), gateTime)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if err := g.enter(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("who leaves: got %v, want canceled", err)
		}
		g.leave(1 << 40)
		for range 10 {
			if err := g.enter(t.Context(), 1); err != nil {
				t.Fatalf("empty again: %v", err)
			}
		}
	})
}

// TestWhatIsTooMuchIsRefusedAndTheRestIsServed: writes hang, as on a disk that does; reads and operators do not notice.
func TestWhatIsTooMuchIsRefusedAndTheRestIsServed(t *testing.T) {
	config, coordinator := fakes()
	var inside, most atomic.Int64
	hang := make(chan struct{})
	coordinator.put = func(string, []byte, string, replication.Level) (replication.Receipt, error) {
		now := inside.Add(1)
		defer inside.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		<-hang
		return replication.Receipt{Version: someVersion(1), N: 1, Acks: 1}, nil
	}
	n := start(t, config)
	var statuses [600]atomic.Int64
	var clients sync.WaitGroup
	for range maxWrites + 100 {
		clients.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), "PUT", "http://"+n.address+"/foo?w=1", strings.NewReader("x"))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := n.client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			a := n.read(resp)
			statuses[a.StatusCode].Add(1)
			if a.StatusCode == 503 && (a.code(t) != "overloaded" || a.Header.Get("Retry-After") == "") {
				t.Errorf("got %s %v, want overloaded with Retry-After", a.text, a.Header)
			}
		})
	}
	for deadline := time.Now().Add(20 * time.Second); statuses[503].Load() < 100; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d were refused, want 100", statuses[503].Load())
		}
	}
	for _, path := range []string{"/foo", "/-/healthy", "/-/members"} {
		if a := n.ask("GET", path, ""); a.StatusCode != 200 {
			t.Errorf("%s beside writes that hang: got %d, want 200", path, a.StatusCode)
		}
	}
	close(hang)
	clients.Wait()
	if got := most.Load(); got != maxWrites {
		t.Errorf("%d were under way, want %d", got, maxWrites)
	}
	if got := statuses[201].Load(); got != maxWrites {
		t.Errorf("%d were served, want %d", got, maxWrites)
	}
	if a := n.ask("PUT", "/foo", "x"); a.StatusCode != 201 {
		t.Errorf("afterwards: got %d, want 201", a.StatusCode)
	}
}

func TestBodiesTakeTheirRoomInMemoryUntilTheyAreAnswered(t *testing.T) {
	config, coordinator := fakes()
	config.Between = newGate(1 << 20)
	large := strings.Repeat("x", 1<<20)
	a := newAPI(config)
	a.sent, a.shown = newGate(1<<20), newGate(1<<20)
	n := startAPI(t, config, a)

	puts, hang := make(chan string, 10), make(chan struct{})
	coordinator.put = func(key string, value []byte, _ string, _ replication.Level) (replication.Receipt, error) {
		puts <- key
		if key == "first" {
			<-hang
		}
		return replication.Receipt{Version: someVersion(1), N: 1, Acks: 1}, nil
	}
	var client sync.WaitGroup
	client.Go(func() {
		if a := n.ask("PUT", "/first", large); a.StatusCode != 201 {
			t.Errorf("first: got %d, want 201", a.StatusCode)
		}
	})
	if got := <-puts; got != "first" {
		t.Fatalf("got %s", got)
	}
	if a := n.ask("PUT", "/second", large); a.StatusCode != 503 || a.code(t) != "overloaded" {
		t.Errorf("without room: got %d %s, want 503 overloaded", a.StatusCode, a.text)
	}
	chunked := n.dial()
	chunked.send("PUT /third HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n" + large[:0x8000] + "\r\n0\r\n\r\n")
	if a := chunked.answer("PUT"); a.StatusCode != 503 || a.code(t) != "overloaded" {
		t.Errorf("chunks without room: got %d %s, want 503 overloaded", a.StatusCode, a.text)
	}
	if a := n.ask("PUT", "/small", large[:firstBuffer]); a.StatusCode != 201 {
		t.Errorf("small one: got %d, want 201", a.StatusCode)
	}
	wantPut(t, puts, "small")
	close(hang)
	client.Wait()
	if a := n.ask("PUT", "/fourth", large); a.StatusCode != 201 {
		t.Errorf("with room again: got %d, want 201", a.StatusCode)
	}
	wantPut(t, puts, "fourth")

	coordinator.get = func(key string, _ replication.Level) (replication.Record, replication.Receipt, error) {
		return replication.Record{Key: key, Version: someVersion(7), ContentType: "a/b", Value: []byte(large)}, replication.Receipt{N: 1, Acks: 1}, nil
	}
	if err := a.shown.enter(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if a := n.ask("GET", "/foo", ""); a.StatusCode != 503 || a.code(t) != "overloaded" {
		t.Errorf("large value without room: got %d, want 503 overloaded", a.StatusCode)
	}
	if a := n.ask("HEAD", "/foo", ""); a.StatusCode != 200 {
		t.Errorf("HEAD of it: got %d, want 200", a.StatusCode)
	}
	a.shown.leave(1)
	for range 3 {
		if a := n.ask("GET", "/foo", ""); a.StatusCode != 200 || a.text != large {
			t.Errorf("with room again: got %d and %d bytes, want 200 and all", a.StatusCode, len(a.text))
		}
	}
}

// Who waits for room has its value already, and keeps others from getting theirs.
func TestAsManyValuesAsReadsUnderWayWaitForRoom(t *testing.T) {
	config, coordinator := fakes()
	a := newAPI(config)
	a.reads, a.shown = newGate(3), newGate(1<<20)
	if err := a.shown.enter(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var values atomic.Int64
	coordinator.get = func(key string, _ replication.Level) (replication.Record, replication.Receipt, error) {
		values.Add(1)
		return replication.Record{Key: key, Version: someVersion(7), Value: make([]byte, 1<<20)}, replication.Receipt{N: 1, Acks: 1}, nil
	}
	n := startAPI(t, config, a)
	var clients sync.WaitGroup
	for range 9 {
		clients.Go(func() {
			if a := n.ask("GET", "/foo", ""); a.StatusCode != 503 || a.Header.Get("ETag") != "" {
				t.Errorf("got %d with ETag %q, want 503 and none", a.StatusCode, a.Header.Get("ETag"))
			}
		})
	}
	clients.Wait() // all waited for at most gateTime, side by side
	if got := values.Load(); got > 6 {
		t.Errorf("%d values were read for 9 clients, want no more than two for each place", got)
	}
}

func wantPut(t *testing.T, puts chan string, want string) {
	t.Helper()
	if got := <-puts; got != want {
		t.Errorf("put %s, want %s", got, want)
	}
}
