package test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// leave tells the node to leave and waits until it has ended.
func leave(t *testing.T, n *cluster.Node) {
	t.Helper()
	must(t, n.Do("POST", "/-/leave", "").Expect(202))
	if code := n.AwaitExit(30 * time.Second); code != 0 {
		t.Fatalf("%s ended with exit code %d after it had left, want 0", n, code)
	}
}

func TestNodeThatLeavesTakesNothingAwayAndIsNotMissed(t *testing.T) {
	c := cluster.Start(t, 3)
	n := c.Node(2)
	id := idOf(t, n)
	fill(t, "key", 200, 50, c.Nodes()...)
	fill(t, "late", 50, 0, n)
	users := plainClients(t, others(c, n)...)
	leave(t, n)
	users.finish(t)
	c.AwaitMembers(5*time.Second, c.Node(0), c.Node(1))
	c.AwaitConverged(5 * time.Second)
	for _, other := range others(c, n) {
		must(t, other.Get("late49?r=1").Expect(200, "value of late49"))
		must(t, other.Put("all?w=all", "two").Expect(201))
	}

	// Started again it is a new member.
	n.Start()
	c.AwaitMembers(30 * time.Second)
	c.AwaitConverged(10 * time.Second)
	if got := idOf(t, n); got == id {
		t.Errorf("it is still %s", got)
	}
}

// What only the node that leaves has goes to the others first, however long that takes.
func TestNodeThatLeavesWaitsUntilOthersHaveEverything(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 3, Args: []string{"--sync-limit", "512KiB"}})
	c.Start()
	n := c.Node(2)
	for _, other := range others(c, n) {
		other.Kill()
	}
	value := strings.Repeat("x", 512<<10)
	for i := range 6 {
		must(t, n.Put(fmt.Sprintf("only%d?w=1", i), value).Expect(201))
	}
	for _, other := range others(c, n) {
		other.Start()
	}
	c.Await(20*time.Second, "a majority to agree", func() error { return n.Do("POST", "/-/leave", "").Expect(202) })
	if code := n.AwaitExit(60 * time.Second); code != 0 {
		t.Fatalf("%s ended with exit code %d after it had left, want 0", n, code)
	}
	for _, other := range others(c, n) {
		for i := range 6 {
			must(t, other.Get(fmt.Sprintf("only%d?r=1", i)).Expect(200, value))
		}
	}
}

func TestLastMemberAndMinorityDoNotLeave(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 3})
	n := c.Node(0)
	n.Start()
	_, err := n.Do("POST", "/-/leave", "").ExpectProblem(409, "conflict")
	must(t, err)
	must(t, n.Put("foo", "bar").Expect(201))
	for _, other := range others(c, n) {
		other.Start("--join", n.Addr())
	}
	c.AwaitMembers(30 * time.Second)
	for _, other := range others(c, n) {
		other.Kill()
	}
	c.AwaitState(20*time.Second, "failed", c.Node(1), n)
	c.AwaitState(20*time.Second, "failed", c.Node(2), n)
	_, err = n.Do("POST", "/-/leave", "").ExpectProblem(503, "quorum")
	must(t, err)
	must(t, seesKnown(3, n))
	c.StartAll()
	c.AwaitMembers(30 * time.Second)
	must(t, n.Put("foo?w=all", "baz").Expect(201)) // it takes writes as before
}

func TestNodeThatIsStoppedWhileItLeavesStaysAMember(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 3, Network: cluster.Namespaces})
	c.Start()
	n := c.Node(2)
	// Nobody hears of this write, and nobody has noticed the split yet.
	c.Cut([]int{0, 1}, []int{2})
	must(t, n.Put("only?w=1", "here").Expect(201))
	for range 2 {
		must(t, n.Do("POST", "/-/leave", "").Expect(202))
	}
	c.Await(5*time.Second, "draining", func() error { return stateOfItself(n, "draining") })
	_, err := n.Put("foo?w=1", "never").ExpectProblem(503, "not-ready", "quorum")
	must(t, err)
	must(t, n.Do("GET", "/-/ready", "").Expect(503))
	c.Throughout(3*time.Second, "three members", func() error { return seesKnown(3, c.Nodes()...) })
	n.Stop()
	c.Heal()
	n.Start()
	c.AwaitMembers(30 * time.Second)
	c.AwaitConverged(10 * time.Second)
	must(t, c.Node(0).Get("only?r=1").Expect(200, "here"))
}

// snakes runs a client command and returns what it printed, standard error included.
func snakes(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command(cluster.Binary(t), args...).CombinedOutput()
	return string(out), err
}

func TestLeaveCommandWaitsUntilTheNodeHasLeft(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	n := c.Node(1)
	out, err := snakes(t, "leave", "--yes", "--server", n.Addr())
	if err != nil || !strings.Contains(out, fmt.Sprintf("%s has left; 2 members remain", n.Name)) {
		t.Errorf("got %v, %q", err, out)
	}
	must(t, seesKnown(2, others(c, n)...))
	if code := n.AwaitExit(15 * time.Second); code != 0 {
		t.Errorf("the node ended with exit code %d, want 0", code)
	}
}

// Two of three disks are lost at once, one for good: nobody can know what was on them.
func TestRepairGoesOnWithoutWhatIsLost(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	n, lost := c.Node(2), c.Node(1)
	n.Stop()
	old := n.CopyData()
	n.Start()
	c.AwaitMembers(15 * time.Second)
	fill(t, "key", 100, 20, c.Nodes()...)
	c.Await(10*time.Second, "told", func() error { return toldAll(n, others(c, n)...) })

	n.Stop()
	n.PutBack(old)
	lost.Kill()
	lost.Wipe()
	n.Start()
	c.Await(20*time.Second, "not synced", func() error { return n.Do("GET", "/-/ready", "").Expect(503) })
	c.Await(20*time.Second, "set aside", func() error {
		if !strings.Contains(n.Log(), "data set aside") { // told when it is done
			return errors.New("the log does not say that data was set aside")
		}
		return nil
	})
	c.Await(20*time.Second, "syncing", func() error { return stateOfItself(n, "syncing") })
	c.Throughout(3*time.Second, "syncing", func() error { return errors.Join(stateOfItself(n, "syncing"), seesKnown(3, n)) })

	_, err := n.Do("POST", "/-/leave", "").ExpectProblem(503, "not-ready") // nobody would agree
	must(t, err)
	_, err = n.Do("POST", "/-/repair", "").ExpectProblem(400, "bad-parameter")
	must(t, err)
	_, err = c.Node(0).Do("POST", "/-/repair?accept-loss=1", "").ExpectProblem(409, "conflict")
	must(t, err)
	if out, err := snakes(t, "repair", "--accept-loss", "--yes", "--server", n.Addr()); err != nil {
		t.Fatalf("repair: %v: %s", err, out)
	}
	c.Await(20*time.Second, "ready", func() error { return n.Do("GET", "/-/ready", "").Expect(200) })
	must(t, n.Get("key99?r=1").Expect(200, "value of key99"))
	must(t, n.Get("key7?r=1").Expect(404))

	// With a majority again, the lost one can be replaced.
	lost.Start("--join", n.Addr())
	c.AwaitMembers(30 * time.Second)
	c.AwaitConverged(10 * time.Second)
}

// The last has nobody to leave its data to, so it stays and serves.
func TestOfAllNodesThatLeaveAtOnceOneStays(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	must(t, c.Node(0).Put("foo?w=all", "bar").Expect(201))
	for _, n := range c.Nodes() {
		if n.Do("POST", "/-/leave", "").Expect(202) != nil { // the others were quick: it is the last already
			_, err := n.Do("POST", "/-/leave", "").ExpectProblem(409, "conflict")
			must(t, err)
		}
	}
	c.Await(40*time.Second, "one node", func() error {
		if left := len(c.Running()); left != 1 {
			return fmt.Errorf("%d run", left)
		}
		return nil
	})
	stays := c.Running()[0]
	for _, n := range others(c, stays) {
		if code := n.AwaitExit(time.Second); code != 0 {
			t.Errorf("%s ended with exit code %d, want 0", n, code)
		}
	}
	c.Await(30*time.Second, "writes", func() error { return stays.Put("foo", "baz").Expect(201) })
	for _, n := range others(c, stays) {
		n.Start("--join", stays.Addr()) // as a new member
	}
	c.AwaitMembers(30 * time.Second)
	must(t, stays.Put("foo?w=all", "qux").Expect(201))
}

// After the cut nobody is left in the roster. Neither may make an empty cluster of it.
func TestNodesThatForcedEachOtherOutFoundNothing(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 2, Network: cluster.Namespaces})
	c.Start()
	a, b := c.Node(0), c.Node(1)
	must(t, a.Put("foo?w=all", "bar").Expect(201))
	c.Cut([]int{0}, []int{1})
	c.AwaitState(20*time.Second, "failed", a, b)
	c.AwaitState(20*time.Second, "failed", b, a)
	must(t, a.Do("DELETE", "/-/members/"+b.Name+"?force=1", "").Expect(204))
	must(t, b.Do("DELETE", "/-/members/"+a.Name+"?force=1", "").Expect(204))
	must(t, seesKnown(1, a, b))
	c.Heal()
	for _, n := range c.Nodes() {
		c.Await(40*time.Second, "set aside", func() error {
			if !strings.Contains(n.Log(), "data set aside") {
				return errors.New("the log does not say that data was set aside")
			}
			return stateOfItself(n, "joining")
		})
	}
	c.Throughout(8*time.Second, "joining", func() error {
		return errors.Join(stateOfItself(a, "joining"), stateOfItself(b, "joining"))
	})
	for _, n := range c.Nodes() {
		if !strings.Contains(n.Log(), "started with --join") {
			t.Errorf("%s does not say what to do", n)
		}
	}
}
