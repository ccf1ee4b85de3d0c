package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/protocol7/snakes/replication"
)

// road is a lane whose batches arrive when the test says so. An answer is the call in capitals.
type road struct {
	t *testing.T
	lane[string, string]
	running sync.WaitGroup
	end     context.CancelFunc

	mu      sync.Mutex
	batches []*trip // in the order in which they left
}

// trip is one batch.
type trip struct {
	calls []string
	ctx   context.Context
	done  chan error // gets what becomes of it
}

var errLost = errors.New("lost")

func newRoad(t *testing.T, l limits) *road {
	life, end := context.WithCancel(context.Background())
	r := &road{t: t, end: end}
	r.lane = lane[string, string]{
		carry: r.carry, size: func(call string) int { return len(call) }, limits: l, running: &r.running,
		begin: func() (context.Context, context.CancelFunc) { return context.WithTimeout(life, flightTime) },
	}
	t.Cleanup(func() {
		end()
		r.running.Wait()
		if len(r.queue) != 0 || r.lane.waiting != 0 || r.flying != 0 || r.late != 0 {
			t.Errorf("left over: %d calls with %d bytes, %d batches, %d late", len(r.queue), r.lane.waiting, r.flying, r.late)
		}
	})
	return r
}

func (r *road) carry(ctx context.Context, batch []string) ([]string, error) {
	trip := &trip{batch, ctx, make(chan error, 1)}
	r.mu.Lock()
	r.batches = append(r.batches, trip)
	r.mu.Unlock()
	var err error
	select {
	case err = <-trip.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	answers := make([]string, len(batch))
	for i, call := range batch {
		answers[i] = strings.ToUpper(call)
	}
	return answers, err
}

// call is one call that was begun.
type call struct {
	leave  context.CancelFunc
	answer string
	err    error
	took   time.Duration
	done   bool
}

// begin begins a call and returns when it is queued or on its way, or has failed.
func (r *road) begin(text string) *call {
	ctx, leave := context.WithCancel(context.Background())
	c := &call{leave: leave}
	began := time.Now()
	r.running.Go(func() {
		c.answer, c.err = r.do(ctx, text)
		c.took, c.done = time.Since(began), true
	})
	synctest.Wait()
	return c
}

// left returns the batches that left, with their calls joined by commas.
func (r *road) left() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var left []string
	for _, trip := range r.batches {
		left = append(left, strings.Join(trip.calls, ","))
	}
	return left
}

// arrive ends the i-th batch.
func (r *road) arrive(i int, err error) {
	r.t.Helper()
	if left := r.left(); i >= len(left) {
		r.t.Fatalf("batches %q left, want one more", left)
	}
	r.batches[i].done <- err
	synctest.Wait()
}

func (r *road) want(t *testing.T, when string, batches ...string) {
	t.Helper()
	if got := r.left(); !slices.Equal(got, batches) {
		t.Errorf("%s: batches %q left, want %q", when, got, batches)
	}
}

func (c *call) want(t *testing.T, answer string, took time.Duration) {
	t.Helper()
	synctest.Wait()
	if !c.done || c.err != nil || c.answer != answer || c.took != took {
		t.Errorf("got %q, %v after %v (done %t), want %q after %v", c.answer, c.err, c.took, c.done, answer, took)
	}
}

func (c *call) wantError(t *testing.T, want error, took time.Duration) {
	t.Helper()
	synctest.Wait()
	if !c.done || !errors.Is(c.err, want) || c.took != took {
		t.Errorf("got %q, %v after %v (done %t), want %v after %v", c.answer, c.err, c.took, c.done, want, took)
	}
}

// small are limits that tests reach with few calls.
var small = limits{calls: 3, bytes: 10, width: 2, queueCalls: 6, queueBytes: 30}

func TestALoneCallLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, batching())
		for i := range 3 {
			c := r.begin("foo")
			r.want(t, "no other call", slices.Repeat([]string{"foo"}, i+1)...)
			r.arrive(i, nil)
			c.want(t, "FOO", 0)
		}
	})
}

func TestCallsGatherWhileABatchIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, batching())
		var calls []*call
		var rest []string
		for i := range 50 {
			calls = append(calls, r.begin(fmt.Sprintf("c%d", i)))
			if i > 0 {
				rest = append(rest, fmt.Sprintf("c%d", i))
			}
		}
		r.want(t, "first on its way", "c0")
		r.arrive(0, nil)
		calls[0].want(t, "C0", 0)
		r.want(t, "first answered", "c0", strings.Join(rest, ","))
		time.Sleep(time.Millisecond)
		r.arrive(1, nil)
		for i, c := range calls[1:] {
			c.want(t, fmt.Sprintf("C%d", i+1), time.Millisecond)
		}
	})
}

func TestBatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, small)
		for _, text := range []string{"a", "b", "c"} {
			r.begin(text)
		}
		r.want(t, "two calls wait", "a")
		r.begin("d")
		r.want(t, "a full batch waits", "a", "b,c,d")
		for _, text := range []string{"e", "f", "g", "h"} {
			r.begin(text)
		}
		r.want(t, "as many on their way as may be", "a", "b,c,d")
		r.arrive(1, nil)
		r.want(t, "one of them answered", "a", "b,c,d", "e,f,g")
		r.arrive(0, nil)
		r.arrive(2, nil)
		r.want(t, "none on its way", "a", "b,c,d", "e,f,g", "h")
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, small)
		large := strings.Repeat("l", 25)
		r.begin("a")
		r.begin("bbbb")
		r.begin("cccc")
		r.want(t, "8 bytes wait", "a")
		r.begin("ddd")
		r.want(t, "11 bytes wait", "a", "bbbb,cccc")
		r.arrive(1, nil)
		r.begin(large)
		r.arrive(0, nil)
		r.want(t, "a large one follows", "a", "bbbb,cccc", "ddd", large)
		r.begin("e")
		r.arrive(2, nil)
		r.want(t, "the large one is on its way", "a", "bbbb,cccc", "ddd", large)
		r.arrive(3, nil)
		r.want(t, "nothing on its way", "a", "bbbb,cccc", "ddd", large, "e")
	})
}

func TestWhatIsTooMuchToWaitIsRefusedAtOnce(t *testing.T) {
	for name, l := range map[string]limits{
		"calls": {calls: 10, bytes: 10, width: 1, queueCalls: 2, queueBytes: 100},
		"bytes": {calls: 10, bytes: 10, width: 1, queueCalls: 100, queueBytes: 7},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoad(t, l)
				a, b, c := r.begin("aaa"), r.begin("bbb"), r.begin("ccc")
				time.Sleep(time.Millisecond)
				refused := r.begin("ddd")
				refused.wantError(t, errCrowded, 0)
				refused.wantError(t, replication.ErrNotSent, 0)
				r.arrive(0, nil)
				r.arrive(1, nil)
				a.want(t, "AAA", time.Millisecond)
				b.want(t, "BBB", time.Millisecond)
				c.want(t, "CCC", time.Millisecond)
				again := r.begin("eee")
				r.arrive(2, nil)
				again.want(t, "EEE", 0)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, small)
		r.begin("a")
		large := r.begin(strings.Repeat("l", 1000))
		if large.done {
			t.Errorf("a large call that alone waits: got %v, want that it waits", large.err)
		}
	})
}

// A node may be frozen, or cut off without a word, and its connections with it. What comes later must
// not wait for what was lost.
func TestABatchWithoutAnswerHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, batching())
		lost := r.begin("lost")
		time.Sleep(patience / 2)
		next := r.begin("next")
		time.Sleep(patience/2 - time.Nanosecond)
		r.want(t, "before patience ends", "lost")
		time.Sleep(time.Nanosecond)
		r.want(t, "when patience ends", "lost", "next")
		r.arrive(1, nil)
		next.want(t, "NEXT", patience/2)
		soon := r.begin("soon")
		r.want(t, "one is late", "lost", "next", "soon")
		r.arrive(2, nil)
		soon.want(t, "SOON", 0)
		time.Sleep(flightTime)
		lost.wantError(t, context.DeadlineExceeded, flightTime)
	})
}

func TestFewBatchesAreOnTheirWayToASilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, batching())
		for range int(3 * flightTime / (patience / 4)) {
			r.begin("foo")
			time.Sleep(patience / 4)
			synctest.Wait()
			r.lane.mu.Lock()
			flying, queued := r.flying, len(r.queue)
			r.lane.mu.Unlock()
			if most := int(flightTime / patience); flying > most {
				t.Fatalf("%d batches are on their way, want %d at most", flying, most)
			}
			if queued > 4 {
				t.Fatalf("%d calls wait, want those of one patience at most", queued)
			}
		}
	})
}

func TestACallThatEndsDisturbsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, small)
		a, b, c, d := r.begin("a"), r.begin("b"), r.begin("c"), new(call)
		b.leave()
		synctest.Wait()
		b.wantError(t, context.Canceled, 0)
		b.wantError(t, replication.ErrNotSent, 0)
		d = r.begin("d")
		r.arrive(0, nil)
		r.want(t, "one has left the queue", "a", "c,d")
		a.want(t, "A", 0)
		c.leave()
		synctest.Wait()
		c.wantError(t, context.Canceled, 0)
		if errors.Is(c.err, replication.ErrNotSent) {
			t.Errorf("left on its way: got %v, want no ErrNotSent", c.err)
		}
		r.arrive(1, nil)
		d.want(t, "D", 0)
	})
}

func TestABatchThatNobodyWaitsForEndsOnceItIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, batching())
		ended := func(i int) error { synctest.Wait(); return r.batches[i].ctx.Err() }
		c := r.begin("early")
		c.leave()
		if err := ended(0); err != nil {
			t.Errorf("nobody waits and it is not late: got %v, want that it goes on", err)
		}
		time.Sleep(patience)
		if err := ended(0); !errors.Is(err, context.Canceled) {
			t.Errorf("nobody waits and it is late: got %v, want that it ends", err)
		}
		a := r.begin("a")
		time.Sleep(patience)
		if err := ended(1); err != nil {
			t.Errorf("one waits and it is late: got %v, want that it goes on", err)
		}
		a.leave()
		if err := ended(1); !errors.Is(err, context.Canceled) {
			t.Errorf("the last one left: got %v, want that it ends", err)
		}
	})
}

func TestACallThatLeavesTheQueueLetsGoOfItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running sync.WaitGroup
		var value weak.Pointer[[1 << 20]byte]
		gate := make(chan struct{})
		l := lane[*[1 << 20]byte, struct{}]{
			carry: func(_ context.Context, batch []*[1 << 20]byte) ([]struct{}, error) {
				<-gate
				return make([]struct{}, len(batch)), nil
			},
			size: func(*[1 << 20]byte) int { return 1 }, limits: small, running: &running,
			begin: func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) },
		}
		running.Go(func() { l.do(context.Background(), new([1 << 20]byte)) })
		synctest.Wait()
		ctx, leave := context.WithCancel(context.Background())
		left := make(chan struct{})
		go func() {
			defer close(left)
			v := new([1 << 20]byte)
			value = weak.Make(v)
			l.do(ctx, v)
		}()
		synctest.Wait()
		leave()
		<-left
		synctest.Wait()
		runtime.GC()
		if value.Value() != nil {
			t.Error("the value of a call that left is still held")
		}
		close(gate)
		running.Wait()
	})
}

func TestABatchThatFailsFailsForAllInItAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, batching())
		a, b, c := r.begin("a"), r.begin("b"), r.begin("c")
		r.arrive(0, nil)
		d := r.begin("d")
		r.arrive(1, errLost)
		r.arrive(2, nil)
		a.want(t, "A", 0)
		b.wantError(t, errLost, 0)
		c.wantError(t, errLost, 0)
		d.want(t, "D", 0)
	})
}

func TestANodeIsSilentWhileItAnswersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := askerOf(t, nil)
		l := p.newLink(idB)
		p.links[idB] = l
		answers := make(chan error)
		var calls sync.WaitGroup
		l.lookups.carry = func(ctx context.Context, batch []string) ([]replication.Outcome, error) {
			return make([]replication.Outcome, len(batch)), <-answers
		}
		l.writes.carry = func(ctx context.Context, batch [][]replication.Record) ([][]replication.Outcome, error) {
			return make([][]replication.Outcome, len(batch)), <-answers
		}
		begin := func() {
			calls.Go(func() { p.Lookup(context.Background(), idB, "foo") })
			synctest.Wait()
		}
		answer := func(err error) {
			answers <- err
			synctest.Wait()
		}
		want := func(when string, since time.Time, silent bool) {
			t.Helper()
			if got := p.Silent(idB, since); got != silent {
				t.Errorf("%s: got silent %t, want %t", when, got, silent)
			}
		}
		want("a call that is in no lane", time.Now(), true)
		first := time.Now()
		begin()
		time.Sleep(patience / 2)
		second := time.Now()
		begin()
		want("nothing answered", first, true)
		time.Sleep(patience / 4)
		answer(nil)
		want("one was begun, then another answered", second, false)
		time.Sleep(patience / 4)
		third := time.Now()
		begin()
		want("nothing answered since", third, true)
		answer(errLost)
		want("one was lost since", third, true)
		begin()
		answer(&remoteError{cause: errInternal})
		want("the node has answered with an error", third, false)
		calls.Go(func() { p.Write(context.Background(), idB, nil) })
		synctest.Wait()
		want("no write was answered", third, true)
		close(answers)
		calls.Wait()
	})
}

func TestEveryCallOfManyGetsItsOwnAnswer(t *testing.T) {
	var running sync.WaitGroup
	var mu sync.Mutex
	carried := make(map[string]int)
	l := lane[string, string]{
		carry: func(ctx context.Context, batch []string) ([]string, error) {
			answers := make([]string, len(batch))
			mu.Lock()
			defer mu.Unlock()
			for i, call := range batch {
				carried[call]++
				answers[i] = strings.ToUpper(call)
			}
			return answers, nil
		},
		size: func(call string) int { return len(call) }, limits: limits{calls: 5, bytes: 30, width: 3, queueCalls: 40, queueBytes: 200},
		begin: func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) }, running: &running,
	}
	for c := range 64 {
		running.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				if rand.N(4) == 0 {
					go cancel()
				}
				text := fmt.Sprintf("c%dx%d", c, i)
				answer, err := l.do(ctx, text)
				mu.Lock()
				times := carried[text]
				mu.Unlock()
				switch {
				case err == nil && (answer != strings.ToUpper(text) || times != 1):
					t.Errorf("%s: got %q, carried %d times, want one answer of its own", text, answer, times)
				case errors.Is(err, replication.ErrNotSent) && times != 0:
					t.Errorf("%s: got %v, but it was carried", text, err)
				case err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errCrowded):
					t.Errorf("%s: got %v", text, err)
				}
				cancel()
			}
		})
	}
	running.Wait()
	if len(l.queue) != 0 || l.waiting != 0 || l.flying != 0 || l.late != 0 {
		t.Errorf("left over: %d calls with %d bytes, %d batches, %d late", len(l.queue), l.waiting, l.flying, l.late)
	}
}
