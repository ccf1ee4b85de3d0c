package cluster

import (
	"fmt"
	"testing"
	"time"
)

// seesAlive returns nil when the observer counts exactly that many members as alive.
func seesAlive(observer *Node, want int) error {
	m, err := observer.Members()
	if err == nil && m.Alive != want {
		err = fmt.Errorf("%s sees %s, want %d alive", observer, m, want)
	}
	return err
}

func TestCutSidesDoNotHearEachOtherUntilHealed(t *testing.T) {
	t.Parallel()
	for name, network := range map[string]Network{"switch": Namespaces, "relay": Relayed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testCut(t, network)
		})
	}
}

func testCut(t *testing.T, network Network) {
	c := fakeCluster(t, 3, network, "good")
	c.Start()
	c.Cut([]int{0}, []int{1, 2})
	for i, want := range []int{1, 2, 2} {
		must(t, seesAlive(c.Node(i), want))
	}
	// The test itself still reaches both sides.
	must(t, c.Node(0).Put("foo", "bar").Expect(201))
	c.Heal()
	c.AwaitMembers(5 * time.Second)

	c.CutOneWay(0, 1)
	must(t, seesAlive(c.Node(0), 2))
	must(t, seesAlive(c.Node(2), 3))
	c.Heal()
	c.AwaitMembers(5 * time.Second)
}

func TestNodeInNamespaceComesBack(t *testing.T) {
	t.Parallel()
	c := fakeCluster(t, 2, Namespaces, "good")
	c.Start()
	c.Node(1).Kill()
	c.AwaitState(5*time.Second, "failed", c.Node(1))
	c.Node(1).Start()
	late := c.AddNode()
	late.Start()
	c.AwaitMembers(5 * time.Second)
}

func TestCutNeedsNamespaces(t *testing.T) {
	t.Parallel()
	got := fails(t, func(t testing.TB) { fakeCluster(t, 2, Loopback, "good").Cut([]int{0}, []int{1}) })
	if got == "" {
		t.Error("Cut on loopback did not fail the test")
	}
}
