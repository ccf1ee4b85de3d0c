package test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// The first five minutes of every user, CONTRACT section 2 and 4: no names, one seed each, and not the same one.
func TestThreeNodesServeTheirFirstUser(t *testing.T) {
	c := cluster.New(t, cluster.Options{Nodes: 3, ClusterName: "snakes", Unnamed: true})
	one, two, three := c.Node(0), c.Node(1), c.Node(2)
	one.Start()
	two.Start("--join", one.Addr())
	three.Start("--join", two.Addr())
	c.AwaitMembers(20 * time.Second)

	must(t, one.Put("foo", "some value").Expect(201, ""))
	must(t, three.Get("foo?r=2").Expect(200, "some value"))
	must(t, two.Put("foo?w=4", "some value").Expect(201, ""))
	_, err := two.Get("nope").ExpectProblem(404, "not-found")
	must(t, err)

	m, err := two.Members()
	must(t, err)
	if m.Cluster != "snakes" || m.Known != 3 || m.Alive != 3 || m.Quorum != 2 || !m.Writable {
		t.Errorf("got cluster %q, %s, quorum %d; want snakes, 3 known and alive, quorum 2, writable", m.Cluster, m, m.Quorum)
	}
	for _, member := range m.Members {
		if len(member.ID) != 32 || member.Name == "" || member.Version == "" || member.Since.IsZero() || !member.Synced {
			t.Errorf("got member %+v, want an id of 32 digits, name, version, since, synced", member)
		}
		if member.Name == m.Self && member.RTT != 0 {
			t.Errorf("got a round trip of %v ms to itself, want 0", member.RTT)
		}
	}
	c.AwaitConverged(5 * time.Second)
	for _, n := range c.Nodes() {
		must(t, n.Do("GET", "/-/healthy", "").Expect(200))
		c.Await(5*time.Second, "ready", func() error { return n.Do("GET", "/-/ready", "").Expect(200) })
	}
}

func TestNodeAnswersSoonAfterItsStart(t *testing.T) {
	c := cluster.New(t, cluster.Options{Nodes: 1})
	n := c.Node(0)
	for _, what := range []string{"with an empty directory", "with its own data"} {
		took := n.Start()
		c.Await(3*time.Second, "plain PUT", func() error { return n.Put("foo", "bar").Expect(201) })
		t.Logf("first answer %s after %v, goal 300ms", what, took.Round(time.Millisecond))
		if took > 3*time.Second {
			t.Errorf("first answer %s after %v", what, took)
		}
		n.Stop()
	}
}

func TestJoinIsSoonCountedEverywhere(t *testing.T) {
	c := cluster.New(t, cluster.Options{Nodes: 3})
	c.Node(0).Start()
	for i := 1; i < 3; i++ {
		start := time.Now()
		c.Node(i).Launch("--join", c.Node(0).Addr())
		c.Node(i).AwaitAnswer(10 * time.Second)
		c.AwaitMembers(10*time.Second, c.Nodes()[:i+1]...)
		t.Logf("member %d counted everywhere %v after its start, goal 2s", i+1, time.Since(start).Round(time.Millisecond))
	}
}

func TestNodeWithoutItsSeedServesOneAndJoinsLater(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 2})
	seed, n := c.Node(0), c.Node(1)
	n.Start("--join", seed.Addr())

	must(t, stateOfItself(n, "joining"))
	_, putErr := n.Put("foo", "bar").ExpectProblem(503, "not-ready", "quorum")
	_, getErr := n.Get("foo").ExpectProblem(503, "not-ready", "quorum")
	must(t, errors.Join(putErr, getErr))
	must(t, n.Put("foo?w=1", "bar").Expect(201, ""))
	must(t, n.Get("foo?r=one").Expect(200, "bar"))
	must(t, n.Do("GET", "/-/ready", "").Expect(503))
	must(t, n.Do("GET", "/-/healthy", "").Expect(200))
	// Longer than the 5 s after which a node that is its own seed founds a cluster: this one must go on trying.
	c.Throughout(8*time.Second, "joining", func() error { return stateOfItself(n, "joining") })

	seed.Start()
	c.AwaitMembers(30 * time.Second)
	must(t, n.Put("foo", "both").Expect(201))
	must(t, seed.Get("foo").Expect(200, "both"))
}

func TestNodeWithOnlyItselfAsSeedBecomesAClusterOfOne(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 1})
	n := c.Node(0)
	n.Start("--join", n.Addr())
	must(t, stateOfItself(n, "joining"))
	c.AwaitMembers(15 * time.Second)
	must(t, n.Put("foo", "bar").Expect(201))
}

func TestThreeNodesThatNameEachOtherFormOneCluster(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 3})
	c.StartAll("--join", fmt.Sprintf("%s,%s,%s", c.Node(0).Addr(), c.Node(1).Addr(), c.Node(2).Addr()))
	c.AwaitMembers(30 * time.Second)
	must(t, c.Node(0).Put("foo?w=all", "bar").Expect(201))
	must(t, c.Node(2).Get("foo?r=all").Expect(200, "bar"))
}

func TestClusterComesBackWhenAllNodesRestartAtOnce(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	must(t, c.Node(0).Put("foo", "bar").Expect(201))
	for _, end := range []func(*cluster.Node){(*cluster.Node).Kill, (*cluster.Node).Terminate} {
		running := c.Nodes()
		for _, n := range running {
			end(n)
		}
		for _, n := range running {
			n.AwaitExit(15 * time.Second)
		}
		c.StartAll()
		c.AwaitMembers(30 * time.Second)
		for _, n := range c.Nodes() {
			must(t, n.Get("foo").Expect(200, "bar"))
		}
	}
}
