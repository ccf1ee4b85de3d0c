package test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// refuses returns nil when the node refuses plain requests for want of a quorum and serves what one node can.
func refuses(n *cluster.Node, key, value string) error {
	_, putErr := n.Put("lonely", "never acknowledged").ExpectProblem(503, "quorum")
	_, getErr := n.Get(key).ExpectProblem(503, "quorum")
	return errors.Join(putErr, getErr, n.Get(key+"?r=1").Expect(200, value))
}

// No side of a split but that with the majority goes on (I7).
func TestLoneNodeRefusesWhileTheOthersGoOn(t *testing.T) {
	c := cluster.New(t, cluster.Options{Nodes: 3, Network: cluster.Namespaces})
	c.Start()
	lone := c.Node(0) // the seed
	must(t, lone.Put("foo", "before").Expect(201))

	c.Cut([]int{0}, []int{1, 2})
	users := plainClients(t, c.Node(1), c.Node(2))
	// From the first request on, before anybody has noticed.
	must(t, refuses(lone, "foo", "before"))
	must(t, c.Node(1).Put("foo", "during").Expect(201))
	c.AwaitState(15*time.Second, "failed", lone, c.Node(1), c.Node(2))
	users.finish(t)
	c.AwaitState(15*time.Second, "failed", c.Node(1), lone)
	c.AwaitState(15*time.Second, "failed", c.Node(2), lone)
	must(t, refuses(lone, "foo", "before"))
	problem, err := lone.Put("foo", "x").ExpectProblem(503, "quorum")
	must(t, err)
	if problem.Written != false {
		t.Errorf("a node that knows itself alone says written %v, want false", problem.Written)
	}
	must(t, seesKnown(3, c.Nodes()...))
	must(t, lone.Do("GET", "/-/ready", "").Expect(503))

	c.Heal()
	c.AwaitMembers(30 * time.Second)
	must(t, lone.Get("foo").Expect(200, "during"))
	must(t, lone.Put("foo", "after").Expect(201))
}

// memberlist forgets dead members after 30 s; the roster does not. What was written on both sides ends the same
// everywhere.
func TestSplitOfAMinuteHeals(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes more than a minute")
	}
	c := cluster.New(t, cluster.Options{Nodes: 3, Network: cluster.Namespaces})
	c.Start()
	lone := c.Node(0)
	must(t, lone.Put("foo", "before").Expect(201))
	pids := make(map[*cluster.Node]int)
	for _, n := range c.Nodes() {
		pids[n] = n.PID()
	}
	c.Cut([]int{0}, []int{1, 2})
	const contested = 20
	round := 0
	c.Throughout(61*time.Second, "one side serves, the other refuses, both count three", func() error {
		round++
		key := fmt.Sprintf("both%d", round%contested)
		return errors.Join(
			refuses(lone, "foo", "before"),
			lone.Put(key+"?w=1", fmt.Sprint("lone ", round)).Expect(201),
			c.Node(1+round%2).Put(key, fmt.Sprint("majority ", round)).Expect(201),
			lone.Put(fmt.Sprintf("lone%d?w=1", round), "lone").Expect(201),
			seesKnown(3, c.Nodes()...),
		)
	})
	c.Heal()
	healed := time.Now()
	c.AwaitMembers(15 * time.Second)
	rejoined := time.Since(healed)
	c.AwaitConverged(15 * time.Second)
	t.Logf("all alive again %v and digests equal %v after the end of the split, goal 15s",
		rejoined.Round(time.Millisecond), time.Since(healed).Round(time.Millisecond))
	for i := range contested {
		must(t, sameEverywhere(fmt.Sprintf("both%d", i), c.Nodes()...))
	}
	last := fmt.Sprintf("both%d", round%contested)
	for _, n := range c.Nodes() {
		must(t, n.Get(last+"?r=1").Expect(200, fmt.Sprint("majority ", round))) // the later one
		must(t, n.Get(fmt.Sprintf("lone%d?r=1", round)).Expect(200, "lone"))
		must(t, n.Put("foo?w=all", "after").Expect(201))
		if n.PID() != pids[n] {
			t.Errorf("%s was restarted", n)
		}
	}
}

// sameEverywhere returns nil when each of the nodes has the same version of key itself.
func sameEverywhere(key string, nodes ...*cluster.Node) error {
	want := nodes[0].Get(key + "?r=1")
	errs := []error{want.Expect(200)}
	for _, n := range nodes[1:] {
		got := n.Get(key + "?r=1")
		err := got.Expect(200, want.Body)
		if tag := got.Header.Get("ETag"); err == nil && tag != want.Header.Get("ETag") {
			err = fmt.Errorf("%s: version %s, want %s", got, tag, want.Header.Get("ETag"))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func TestLearnerThatMeetsOnlyAMinorityIsNotCounted(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 3, Network: cluster.Namespaces})
	c.Start()
	c.Cut([]int{0}, []int{1, 2})
	late := c.AddNode()
	c.Cut([]int{3}, []int{1, 2})
	late.Start("--join", c.Node(0).Addr())
	c.Throughout(10*time.Second, "three members on every side", func() error {
		_, err := late.Put("foo", "bar").ExpectProblem(503, "quorum", "not-ready")
		return errors.Join(err, seesKnown(3, c.Node(0), c.Node(1), c.Node(2)))
	})
	c.Heal()
	c.AwaitMembers(45 * time.Second)
}
