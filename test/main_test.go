package test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := runMoreInParallel(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(cluster.Main(m))
}

// runMoreInParallel lets ten parallel stories run at once unless the command line says how many: they wait for nodes
// nearly all the time, and Go's default is one for each processor.
func runMoreInParallel() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", "10")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is the longest that a plain request may take when a member is lost: one second of silence and what it takes
// to answer.
const patience = 1500 * time.Millisecond

// clients are users who write and read plainly, one per node, each a key of its own, until they are stopped.
type clients struct {
	stop chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	requests int
	slowest  cluster.Response
	errs     []error
}

// plainClients starts a client for each node. Their requests carry neither r nor w.
func plainClients(nodes ...*cluster.Node) *clients {
	c := &clients{stop: make(chan struct{})}
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
	if err == nil && r.Took > patience {
		err = fmt.Errorf("%s, want no longer than %v", r, patience)
	}
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

// finish stops the clients and fails the test unless every request was answered well and in time.
func (c *clients) finish(t testing.TB) {
	t.Helper()
	close(c.stop)
	c.wg.Wait()
	t.Logf("%d plain requests, slowest %s", c.requests, c.slowest)
	if c.requests == 0 {
		t.Error("the clients made no request")
	}
	if len(c.errs) > 0 {
		t.Errorf("%d of %d plain requests failed: %v", len(c.errs), c.requests, errors.Join(c.errs[:min(len(c.errs), 5)]...))
	}
}

// seesKnown returns nil when each of the nodes counts exactly that many members as known.
func seesKnown(want int, nodes ...*cluster.Node) error {
	var errs []error
	for _, n := range nodes {
		m, err := n.Members()
		if err == nil && m.Known != want {
			err = fmt.Errorf("%s sees %s, want known=%d", n, m, want)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// stateOfItself returns nil when the node reports itself in state.
func stateOfItself(n *cluster.Node, state string) error {
	m, err := n.Members()
	if err != nil {
		return err
	}
	if me, ok := m.Me(); !ok || me.State != state {
		return fmt.Errorf("%s sees itself in %s, want %s", n, m, state)
	}
	return nil
}

// idOf returns the node id that the node reports for itself.
func idOf(t testing.TB, n *cluster.Node) string {
	t.Helper()
	m, err := n.Members()
	must(t, err)
	me, ok := m.Me()
	if !ok || len(me.ID) != 32 {
		t.Fatalf("%s reports %+v as itself, want a member with an id of 32 hexadecimal digits", n, me)
	}
	return me.ID
}
