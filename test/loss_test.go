package test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

func others(c *cluster.Cluster, victim *cluster.Node) []*cluster.Node {
	return slices.DeleteFunc(c.Nodes(), func(n *cluster.Node) bool { return n == victim })
}

func TestKilledNodeIsNotMissedAndComesBack(t *testing.T) {
	for name, victim := range map[string]int{"the seed": 0, "one that joined": 2} {
		t.Run(name, func(t *testing.T) {
			c := cluster.Start(t, 3)
			dead := c.Node(victim)
			rest := others(c, dead)
			must(t, dead.Put("foo", "before").Expect(201))

			dead.Kill()
			killed := time.Now()
			users := plainClients(t, rest...)
			c.AwaitState(10*time.Second, "failed", dead)
			t.Logf("failed %v after kill -9", time.Since(killed).Round(time.Millisecond))
			users.finish(t)
			must(t, seesKnown(3, rest...))
			must(t, rest[0].Get("foo").Expect(200, "before"))
			must(t, rest[1].Put("foo", "after").Expect(201))
			if _, err := rest[0].Put("foo?w=3", "never").ExpectProblem(503, "quorum"); err != nil {
				t.Errorf("w=3 with two of three alive: %v", err)
			}

			users = plainClients(t, rest...)
			dead.Start()
			c.AwaitMembers(15 * time.Second)
			users.finish(t)
			must(t, dead.Put("foo", "again").Expect(201))
			for _, n := range c.Nodes() {
				must(t, n.Get("foo?r=all").Expect(200, "again"))
			}
		})
	}
}

func TestReturnedNodeServesWhatItMissed(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	n := c.Node(1)
	must(t, n.Put("foo", "old").Expect(201))
	must(t, n.Put("gone", "old").Expect(201))
	n.Kill()
	must(t, c.Node(0).Put("foo", "new").Expect(201))
	must(t, c.Node(0).Delete("gone").Expect(204))
	n.Start()
	c.AwaitMembers(15 * time.Second)
	must(t, n.Get("foo").Expect(200, "new"))
	must(t, n.Get("gone").Expect(404))
}

func TestTerminatedNodeIsStoppedAtOnceAndStillCounted(t *testing.T) {
	c := cluster.Start(t, 3)
	n := c.Node(2)
	n.Stop() // checks the exit code
	stopped := time.Now()
	users := plainClients(t, others(c, n)...)
	c.AwaitState(time.Second, "stopped", n)
	t.Logf("stopped %v after the end of the process", time.Since(stopped).Round(time.Millisecond))
	must(t, seesKnown(3, others(c, n)...))
	c.Throughout(5*time.Second, "stopped, not failed", func() error {
		m, err := c.Node(0).Members()
		if err != nil {
			return err
		}
		if got, ok := m.Find(n); !ok || got.State != "stopped" || m.Known != 3 {
			return fmt.Errorf("got %s, want %s stopped", m, n)
		}
		return nil
	})
	users.finish(t)
	n.Start()
	c.AwaitMembers(15 * time.Second)
}

func TestRestartOfANodeIsNotNoticed(t *testing.T) {
	c := cluster.Start(t, 3)
	n := c.Node(1)
	users := plainClients(t, others(c, n)...)
	n.Restart()
	c.AwaitMembers(15 * time.Second)
	users.finish(t)
}

func TestFrozenNodeDelaysNobodyForLong(t *testing.T) {
	c := cluster.Start(t, 3)
	frozen := c.Node(2)
	must(t, c.Node(0).Put("foo", "bar").Expect(201))
	frozen.Freeze()

	// At once, while all still count the frozen one as alive.
	users := plainClients(t, c.Node(0), c.Node(1))
	all := c.Node(0).Put("all?w=3", "bar")
	problem, err := all.ExpectProblem(503, "quorum")
	if err != nil {
		t.Errorf("w=3 with one of three frozen: %v", err)
	} else if problem.Written != "unknown" {
		t.Errorf("w=3 with one of three frozen: written %v, want unknown: two have it", problem.Written)
	}
	if all.Took > 6*time.Second {
		t.Errorf("w=3 with one of three frozen answered after %v, want 5s at most", all.Took)
	}
	t.Logf("w=3 refused after %v", all.Took.Round(time.Millisecond))
	c.AwaitState(15*time.Second, "failed", frozen, c.Node(0), c.Node(1))
	users.finish(t)

	frozen.Thaw()
	c.AwaitMembers(30 * time.Second)
	must(t, frozen.Put("foo", "thawed").Expect(201))
	must(t, c.Node(0).Get("foo").Expect(200, "thawed"))
}

func TestForgottenNodeLowersTheNumberOfMembers(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	n := c.Node(2)
	if _, err := c.Node(0).Do("DELETE", "/-/members/"+n.Name, "").ExpectProblem(409, "conflict"); err != nil {
		t.Errorf("forget a live member: %v", err)
	}
	n.Kill()
	c.AwaitState(15*time.Second, "failed", n)
	must(t, c.Node(0).Do("DELETE", "/-/members/"+n.Name, "").Expect(204))
	c.AwaitMembers(10*time.Second, c.Node(0), c.Node(1))
	must(t, c.Node(1).Put("foo?w=all", "bar").Expect(201))
}

// Last update wins on every node alike, whatever the order of arrival (I2).
func TestManyWritersOfOneKeyLeaveOneVersion(t *testing.T) {
	c := cluster.Start(t, 3)
	const writes = 1000
	work := make(chan int)
	errs := make(chan error, writes)
	start := time.Now()
	var wg sync.WaitGroup
	for w := range 12 {
		n := c.Node(w % 3)
		wg.Go(func() {
			for i := range work {
				if err := n.Put("contested", fmt.Sprintf("write %d at %s", i, n)).Expect(201, ""); err != nil {
					errs <- err
				}
			}
		})
	}
	for i := range writes {
		work <- i
	}
	close(work)
	wg.Wait()
	close(errs)
	t.Logf("%d writes of one key at three coordinators in %v", writes, time.Since(start).Round(time.Millisecond))
	for err := range errs {
		t.Error(err)
	}

	c.AwaitConverged(10 * time.Second)
	want := c.Node(0).Get("contested?r=1")
	must(t, want.Expect(200))
	if want.Header.Get("ETag") == "" {
		t.Fatalf("%s: no ETag", want)
	}
	for _, n := range c.Nodes() {
		for _, level := range []string{"1", "all"} {
			got := n.Get("contested?r=" + level)
			must(t, got.Expect(200, want.Body))
			if got.Header.Get("ETag") != want.Header.Get("ETag") {
				t.Errorf("%s: ETag %s, want %s", got, got.Header.Get("ETag"), want.Header.Get("ETag"))
			}
		}
	}
}
