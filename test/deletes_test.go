package test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// soonForgotten lets tombstones go a second after everybody has seen them, instead of ten minutes.
var soonForgotten = []string{"--tombstone-age", "1s"}

// deletedKeys is how many keys these stories delete: "gone0", "gone1", ...
const deletedKeys = 30

// hasTombstones returns nil when each of the nodes keeps exactly that many tombstones.
func hasTombstones(want int, nodes ...*cluster.Node) error {
	var errs []error
	for _, n := range nodes {
		m, err := n.Members()
		if err == nil && m.Tombstones != want {
			err = fmt.Errorf("%s sees %s, want %d tombstones", n, m, want)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// blocks returns nil when that many tombstones of the observer wait for subject.
func blocks(want int, observer, subject *cluster.Node) error {
	m, err := observer.Members()
	if err != nil {
		return err
	}
	if got, ok := m.Find(subject); !ok || got.Blocks != want {
		return fmt.Errorf("%s sees %s, want %s to block %d", observer, m, subject, want)
	}
	return nil
}

// toldAll returns nil when the node has told each of the observers that it has all that they know of.
func toldAll(n *cluster.Node, observers ...*cluster.Node) error {
	var errs []error
	for _, o := range observers {
		m, err := o.Members()
		if err == nil {
			if got, ok := m.Find(n); !ok || got.Behind != 0 {
				err = fmt.Errorf("%s sees %s, want %s not behind, not by %d", o, m, n, got.Behind)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// areGone returns nil when none of the nodes has any of the deleted keys, each asked for what it has itself.
func areGone(nodes ...*cluster.Node) error {
	for _, n := range nodes {
		for i := range deletedKeys {
			if err := n.Get(fmt.Sprintf("gone%d?r=1", i)).Expect(404); err != nil {
				return fmt.Errorf("a deleted key came back: %w", err)
			}
		}
	}
	return nil
}

// deletedWhileAway starts a cluster and deletes keys while its last node is stopped. The tombstones wait for it.
func deletedWhileAway(t *testing.T) (c *cluster.Cluster, away *cluster.Node, rest []*cluster.Node) {
	t.Helper()
	c = cluster.New(t, cluster.Options{Nodes: 3, Args: soonForgotten})
	c.Start()
	away = c.Node(2)
	rest = others(c, away)
	fill(t, "gone", deletedKeys, 0, c.Nodes()...)
	fill(t, "kept", 10, 0, c.Nodes()...)
	c.AwaitConverged(5 * time.Second)
	away.Stop()
	fill(t, "gone", 0, deletedKeys, rest...)
	for _, n := range rest {
		c.Await(10*time.Second, "the absent member blocks all tombstones", func() error { return blocks(deletedKeys, n, away) })
	}
	// Many times as long as they would stay otherwise.
	c.Throughout(6*time.Second, "tombstones wait", func() error { return hasTombstones(deletedKeys, rest...) })
	return c, away, rest
}

// A member may be away for as long as it likes (I5).
func TestTombstonesWaitForAnAbsentMember(t *testing.T) {
	t.Parallel()
	c, away, _ := deletedWhileAway(t)
	away.Start()
	c.AwaitMembers(15 * time.Second)
	c.AwaitConverged(10 * time.Second)
	must(t, areGone(c.Nodes()...))
	c.Await(30*time.Second, "no tombstone", func() error { return hasTombstones(0, c.Nodes()...) })
	must(t, blocks(0, c.Node(0), away))
	c.Throughout(3*time.Second, "deleted keys stay away", func() error { return areGone(c.Nodes()...) })
	c.AwaitConverged(time.Second)
	must(t, away.Get("kept9?r=1").Expect(200, "value of kept9"))
}

// A member that was forgotten does not bring back what was deleted after that, and needs nobody's help.
func TestForgottenMemberComesBackAsANewOne(t *testing.T) {
	t.Parallel()
	c, away, rest := deletedWhileAway(t)
	must(t, c.Node(0).Do("DELETE", "/-/members/"+away.Name, "").Expect(204))
	c.Await(30*time.Second, "no tombstone", func() error { return hasTombstones(0, rest...) })

	away.Start() // without --join
	c.AwaitMembers(30 * time.Second)
	c.AwaitConverged(10 * time.Second)
	must(t, areGone(c.Nodes()...))
	must(t, away.Get("kept9?r=1").Expect(200, "value of kept9"))
	must(t, away.Put("foo?w=all", "bar").Expect(201))
	for _, want := range []string{"removed", "aside"} {
		if !strings.Contains(away.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// The same within one process: it was forgotten while it was frozen.
func TestForgottenMemberThatWasFrozenComesBackAsANewOne(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	frozen := c.Node(2)
	id, pid := idOf(t, frozen), frozen.PID()
	must(t, frozen.Put("foo", "bar").Expect(201))
	frozen.Freeze()
	c.AwaitState(20*time.Second, "failed", frozen, c.Node(0), c.Node(1))
	must(t, c.Node(0).Do("DELETE", "/-/members/"+frozen.Name, "").Expect(204))
	c.AwaitMembers(10*time.Second, c.Node(0), c.Node(1))
	must(t, c.Node(0).Delete("foo").Expect(204))

	frozen.Thaw()
	c.AwaitMembers(40 * time.Second)
	if got := idOf(t, frozen); got == id || frozen.PID() != pid {
		t.Errorf("got node id %s in process %d, want another one than %s in process %d", got, frozen.PID(), id, pid)
	}
	c.AwaitConverged(10 * time.Second)
	must(t, frozen.Get("foo?r=1").Expect(404))
}

// An old copy of a data directory brings nothing back either, and what was only in it is not lost.
func TestOldCopyOfADirectoryIsFoundOut(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 3, Args: soonForgotten})
	c.Start()
	n := c.Node(2)
	id := idOf(t, n)
	fill(t, "gone", deletedKeys, 0, c.Nodes()...)
	fill(t, "kept", 10, 0, c.Nodes()...)
	c.AwaitConverged(5 * time.Second)

	// Two copies that part: in one of them the node has written a key while nobody else was there.
	n.Stop()
	before := n.CopyData()
	for _, other := range others(c, n) {
		other.Stop()
	}
	n.Start()
	must(t, n.Put("only?w=1", "here").Expect(201))
	n.Stop()
	withOnly := n.CopyData()
	n.PutBack(before)
	c.StartAll()
	c.AwaitMembers(30 * time.Second)

	fill(t, "gone", 0, deletedKeys, c.Nodes()...)
	fill(t, "later", 10, 0, n)
	c.Await(10*time.Second, "told", func() error { return toldAll(n, others(c, n)...) })
	c.Await(30*time.Second, "no tombstone", func() error { return hasTombstones(0, c.Nodes()...) })
	n.Stop()
	n.PutBack(withOnly)
	n.Start()
	c.Await(30*time.Second, "what was only in the copy is everywhere", func() error {
		var errs []error
		for _, n := range c.Nodes() {
			errs = append(errs, n.Get("only?r=1").Expect(200, "here"))
		}
		return errors.Join(errs...)
	})
	c.AwaitMembers(30 * time.Second)
	c.AwaitConverged(10 * time.Second)
	must(t, areGone(c.Nodes()...))
	must(t, n.Get("later9?r=1").Expect(200, "value of later9"))
	if got := idOf(t, n); got != id {
		t.Errorf("got node id %s, want %s as before", got, id)
	}
	for _, want := range []string{"old copy", "aside"} {
		if !strings.Contains(n.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// While nobody else is there who could find it out, an old copy tells its own clients what it has, and nodes nothing.
func TestOldCopyThatIsAloneGivesItsKeysToNobody(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 3, Args: soonForgotten})
	c.Start()
	n := c.Node(2)
	fill(t, "gone", deletedKeys, 0, c.Nodes()...)
	fill(t, "kept", 10, 0, c.Nodes()...)
	c.AwaitConverged(5 * time.Second)
	n.Stop()
	old := n.CopyData()
	n.Start()
	c.AwaitMembers(15 * time.Second)
	fill(t, "gone", 0, deletedKeys, c.Nodes()...)
	c.Await(10*time.Second, "told", func() error { return toldAll(n, others(c, n)...) })
	c.Await(30*time.Second, "no tombstone", func() error { return hasTombstones(0, c.Nodes()...) })

	intact := others(c, n)
	for _, member := range c.Nodes() {
		member.Kill()
	}
	n.PutBack(old)
	n.Start()
	c.Await(10*time.Second, "the old copy serves its clients", func() error { return n.Get("kept9?r=1").Expect(200, "value of kept9") })
	late := c.AddNode()
	late.Start(append([]string{"--join", n.Addr()}, soonForgotten...)...)
	c.Throughout(5*time.Second, "the new node got nothing", func() error {
		m, err := late.Members()
		if self, _ := m.Find(late); err == nil && self.Keys > 0 {
			err = fmt.Errorf("%s has %d keys", late, self.Keys)
		}
		return errors.Join(err, n.Do("GET", "/-/ready", "").Expect(503))
	})
	for _, member := range intact {
		member.Start()
	}
	c.AwaitMembers(40 * time.Second)
	c.AwaitConverged(10 * time.Second)
	must(t, areGone(c.Nodes()...))
	must(t, late.Get("kept9?r=1").Expect(200, "value of kept9"))
}
