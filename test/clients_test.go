package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// patience is the longest that a plain request may take when a member is lost: one second of silence and what it takes
// to answer. Time in which the machine itself stood still does not count.
const patience = 1500 * time.Millisecond

// clients are users who write and read plainly, one per node, each a key of its own, until they are stopped.
type clients struct {
	stop    chan struct{}
	wg      sync.WaitGroup
	machine *machine

	mu       sync.Mutex // guards the fields below
	requests int
	slowest  cluster.Response
	slow     []request
	errs     []error
}

// request is one that took longer than patience.
type request struct {
	cluster.Response
	during span
}

// plainClients starts a client for each node. Their requests carry neither r nor w.
func plainClients(t testing.TB, nodes ...*cluster.Node) *clients {
	c := &clients{stop: make(chan struct{}), machine: watchMachine(t)}
	for i, n := range nodes {
		c.wg.Go(func() {
			key := fmt.Sprintf("client%d", i)
			for round := 0; ; round++ {
				select {
				case <-c.stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				value := fmt.Sprintf("round %d", round)
				put := n.Put(key, value)
				c.note(put, put.Expect(201, ""))
				get := n.Get(key)
				c.note(get, get.Expect(200, value))
			}
		})
	}
	return c
}

func (c *clients) note(r cluster.Response, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	if r.Took > c.slowest.Took {
		c.slowest = r
	}
	if err != nil {
		c.errs = append(c.errs, err)
	} else if r.Took > patience {
		now := time.Now()
		c.slow = append(c.slow, request{Response: r, during: span{now.Add(-r.Took), now}})
	}
}

// finish stops the clients and fails the test unless every request was answered well and in time.
func (c *clients) finish(t testing.TB) {
	t.Helper()
	close(c.stop)
	c.wg.Wait()
	stalls := c.machine.unwatch(t)
	t.Logf("%d plain requests, slowest %s", c.requests, c.slowest)
	if c.requests == 0 {
		t.Error("the clients made no request")
	}
	for _, r := range c.slow {
		if stood := overlap(r.during, stalls); r.Took-stood > patience {
			c.errs = append(c.errs, fmt.Errorf("%s, want no longer than %v beyond the %v in which the machine stood still", r, patience, stood))
		}
	}
	if len(c.errs) > 0 {
		t.Errorf("%d of %d plain requests failed: %v", len(c.errs), c.requests, errors.Join(c.errs[:min(len(c.errs), 5)]...))
	}
}

type span struct{ from, to time.Time }

// overlap returns how much of s the stalls cover, which follow each other.
func overlap(s span, stalls []span) time.Duration {
	var sum time.Duration
	for _, stall := range stalls {
		from, to := stall.from, stall.to
		if from.Before(s.from) {
			from = s.from
		}
		if to.After(s.to) {
			to = s.to
		}
		sum += max(0, to.Sub(from))
	}
	return sum
}

// machine looks all the time how long the smallest durable write takes. Nodes can do no better than that: where disk and
// processors are shared, a second of silence need not be one of theirs.
type machine struct {
	stop   chan struct{}
	done   chan struct{}
	stalls []span // longer than a node notices; read only when done is closed
	err    error
}

func watchMachine(t testing.TB) *machine {
	m := &machine{stop: make(chan struct{}), done: make(chan struct{})}
	f, err := os.Create(filepath.Join(t.TempDir(), "probe"))
	must(t, err)
	go func() {
		defer close(m.done)
		defer f.Close()
		for {
			select {
			case <-m.stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			from := time.Now()
			_, err := f.WriteAt([]byte("x"), 0)
			if err = errors.Join(err, f.Sync()); err != nil {
				m.err = err
				return
			}
			if to := time.Now(); to.Sub(from) > 100*time.Millisecond {
				m.stalls = append(m.stalls, span{from, to})
			}
		}
	}()
	return m
}

// unwatch returns the times in which the machine did not get a byte to its disk.
func (m *machine) unwatch(t testing.TB) []span {
	t.Helper()
	close(m.stop)
	<-m.done
	must(t, m.err)
	return m.stalls
}

func TestOverlapCountsOnlyWhatIsShared(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	stalls := []span{{at(0), at(2)}, {at(4), at(5)}, {at(9), at(12)}, {at(20), at(30)}}
	if got, want := overlap(span{at(1), at(10)}, stalls), 3*time.Second; got != want {
		t.Errorf("overlap is %v, want %v: one second of each of the first three", got, want)
	}
}
