package test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// fill puts and deletes keys through all given nodes, several at a time.
func fill(t *testing.T, prefix string, puts, deletes int, nodes ...*cluster.Node) {
	t.Helper()
	each := func(count int, do func(n *cluster.Node, key string) error) {
		var workers sync.WaitGroup
		errs := make(chan error, 6)
		for w := range cap(errs) {
			workers.Go(func() {
				for i := w; i < count; i += cap(errs) {
					if err := do(nodes[i%len(nodes)], fmt.Sprintf("%s%d", prefix, i)); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		workers.Wait()
		close(errs)
		for err := range errs {
			t.Fatal(err)
		}
	}
	each(puts, func(n *cluster.Node, key string) error { return n.Put(key, "value of "+key).Expect(201) })
	each(deletes, func(n *cluster.Node, key string) error { return n.Delete(key).Expect(204) })
}

func TestReturnedNodeCatchesUpUnasked(t *testing.T) {
	c := cluster.Start(t, 3)
	away := c.Node(2)
	fill(t, "old", 200, 0, c.Nodes()...)
	away.Stop()
	fill(t, "new", 1000, 0, others(c, away)...)
	fill(t, "old", 0, 200, others(c, away)...)

	away.Start()
	c.AwaitMembers(15 * time.Second)
	alive := time.Now()
	c.AwaitConverged(15 * time.Second)
	t.Logf("digests equal %v after it was alive, goal 3s", time.Since(alive).Round(time.Millisecond))
	must(t, away.Get("new999?r=1").Expect(200, "value of new999"))
	must(t, away.Get("old7?r=1").Expect(404))
}

func TestWipedNodeIsReplacedAndCatchesUp(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	wiped := c.Node(1)
	fill(t, "key", 1000, 200, c.Nodes()...)
	wiped.Kill()
	wiped.Wipe()
	wiped.Start("--join", c.Node(0).Addr())
	c.AwaitMembers(30 * time.Second)
	alive := time.Now()
	c.AwaitConverged(15 * time.Second)
	t.Logf("digests equal %v after it was alive, goal 3s", time.Since(alive).Round(time.Millisecond))
	must(t, seesKnown(3, c.Nodes()...))
	must(t, wiped.Get("key999?r=1").Expect(200, "value of key999"))
	must(t, wiped.Get("key7?r=1").Expect(404))
}

func TestFourthNodeHasEverythingBeforeItCounts(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	fill(t, "key", 1000, 200, c.Nodes()...)
	fourth := c.AddNode()
	fourth.Start("--join", c.Node(2).Addr())
	c.AwaitMembers(30 * time.Second)
	// It counts now, so it has what was acknowledged before: at once, not eventually.
	must(t, fourth.Get("key999?r=1").Expect(200, "value of key999"))
	must(t, fourth.Get("key7?r=1").Expect(404))
	c.AwaitConverged(15 * time.Second)
}
