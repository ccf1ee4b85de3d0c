package test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

func TestNodeComesBackOnAnotherPort(t *testing.T) {
	t.Parallel()
	for _, end := range []struct {
		name string
		end  func(*cluster.Node)
	}{{"after kill -9", (*cluster.Node).Kill}, {"after SIGTERM", (*cluster.Node).Stop}} {
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			c := cluster.Start(t, 3)
			n := c.Node(1)
			id := idOf(t, n)
			must(t, n.Put("foo", "bar").Expect(201))
			end.end(n)
			n.NewPort()
			n.Start()
			c.AwaitMembers(30 * time.Second)
			if got := idOf(t, n); got != id {
				t.Errorf("got node id %s, want %s as before", got, id)
			}
			must(t, n.Get("foo").Expect(200, "bar"))
		})
	}
}

func TestNewNodeUnderTheNameOfADeadOneReplacesIt(t *testing.T) {
	t.Parallel()
	stories := []struct {
		name    string
		replace func(*testing.T, *cluster.Cluster, *cluster.Node) *cluster.Node
	}{
		{"another machine", func(_ *testing.T, c *cluster.Cluster, dead *cluster.Node) *cluster.Node {
			n := c.AddNode()
			n.Name = dead.Name
			return n
		}},
		{"a wiped disk", func(_ *testing.T, _ *cluster.Cluster, dead *cluster.Node) *cluster.Node {
			dead.Wipe()
			return dead
		}},
	}
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := cluster.Start(t, 3)
			dead := c.Node(2)
			id := idOf(t, dead)
			must(t, c.Node(0).Put("foo", "bar").Expect(201))
			dead.Kill()
			c.AwaitState(15*time.Second, "failed", dead)
			n := s.replace(t, c, dead)
			n.Start("--join", c.Node(0).Addr())
			c.AwaitMembers(30*time.Second, c.Node(0), c.Node(1), n)
			if idOf(t, n) == id {
				t.Errorf("the new node has the dead one's id %s", id)
			}
			must(t, n.Get("foo").Expect(200, "bar"))
			must(t, n.Put("foo?w=all", "baz").Expect(201))
		})
	}
}

func TestClustersOfOtherNamesDoNotMix(t *testing.T) {
	t.Parallel()
	one := cluster.Start(t, 3)
	must(t, one.Node(0).Put("foo", "one").Expect(201))

	// A node of another cluster that names a member of this one as its seed.
	stray := cluster.New(t, cluster.Options{Nodes: 1})
	stray.Node(0).Name = "stray"
	stray.Node(0).Start("--join", one.Node(0).Addr())

	// Another cluster at the address of a dead member, whom the others keep looking for.
	dead := one.Node(2)
	dead.Kill()
	two := cluster.New(t, cluster.Options{Nodes: 1})
	two.Node(0).Name = "other"
	two.Node(0).Port = dead.Port
	two.Node(0).Start()
	must(t, two.Node(0).Put("foo", "two").Expect(201))

	// Longer than the 10 s after which members are looked for again.
	one.Throughout(13*time.Second, "separate clusters", func() error {
		return errors.Join(
			seesKnown(3, one.Node(0), one.Node(1)),
			notAlive(one.Node(0), dead),
			seesKnown(1, two.Node(0)),
			stateOfItself(stray.Node(0), "joining"),
			two.Node(0).Get("foo").Expect(200, "two"),
		)
	})
	must(t, one.Node(0).Get("foo").Expect(200, "one"))
	two.Node(0).Kill()
	dead.Start()
	one.AwaitMembers(30 * time.Second)
}

// notAlive returns nil once the observer does not take what is at the dead member's address for that member. For the
// first seconds after its end it may still count as alive: only where two clusters meet is looked at here.
func notAlive(observer, dead *cluster.Node) error {
	m, err := observer.Members()
	if err != nil {
		return err
	}
	for _, member := range m.Members {
		if member.Name == "other" || member.Name == "stray" {
			return fmt.Errorf("%s sees %s: a member of another cluster", observer, m)
		}
	}
	if _, ok := m.Find(dead); !ok {
		return fmt.Errorf("%s sees %s, want %s known", observer, m, dead)
	}
	return nil
}

func TestSecondProcessOnADataDirectoryExits(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 2})
	holder, second := c.Node(0), c.Node(1)
	holder.Start()
	second.Data = holder.Data
	second.Launch()
	if got := second.AwaitExit(10 * time.Second); got != 1 {
		t.Errorf("exit code %d, want 1", got)
	}
	if log := second.Log(); !strings.Contains(log, fmt.Sprint(holder.PID())) && !strings.Contains(log, holder.Addr()) {
		t.Errorf("the message does not name the holder, process %d at %s:\n%s", holder.PID(), holder.Addr(), log)
	}
	must(t, holder.Put("foo", "bar").Expect(201))
	holder.Kill() // leaves whatever marks the directory as held
	second.Start()
	must(t, second.Get("foo").Expect(200, "bar"))
}

func TestTwinOfALiveNodeExits(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	n := c.Node(1)
	must(t, n.Put("foo", "bar").Expect(201))
	c.AwaitConverged(5 * time.Second)
	twin := c.AddNode()
	twin.Name = n.Name
	must(t, os.CopyFS(twin.Data, os.DirFS(n.Data)))
	twin.Launch()
	if got := twin.AwaitExit(20 * time.Second); got != 1 {
		t.Errorf("exit code %d of a second process with the same node id, want 1", got)
	}
	c.AwaitMembers(15*time.Second, c.Node(0), n, c.Node(2))
	must(t, n.Get("foo").Expect(200, "bar"))
}
