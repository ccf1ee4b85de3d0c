package membership_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/membership"
)

func trio(t *testing.T, net *network) (a, b, c *node) {
	t.Helper()
	a = net.start(t, named("a"))
	b = net.start(t, named("b"), seedsOf(a))
	c = net.start(t, named("c"), seedsOf(b))
	await(t, "3: a=alive b=alive c=alive", a, b, c)
	sameCluster(t, a, b, c)
	return a, b, c
}

func TestOneSeedAddressMakesACluster(t *testing.T) {
	t.Parallel()
	trio(t, newNetwork())
}

func TestAKilledMemberFailsAndReturnsWithoutSeeds(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	b.kill()
	await(t, "3: a=alive b=failed c=alive", a, c)
	b = net.start(t, named("b"), data(b), at(b.address))
	await(t, "3: a=alive b=alive c=alive", a, b, c)
}

func TestAStoppedMemberIsExpectedBack(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	c.stop()
	await(t, "3: a=alive b=alive c=stopped", a, b)
	c.stop() // twice is harmless
	c = net.start(t, named("c"), data(c), at(c.address))
	await(t, "3: a=alive b=alive c=alive", a, b, c)
}

func TestAMemberThatDoesNotAnswerIsSuspectUntilItDoes(t *testing.T) {
	t.Parallel()
	a, b, c := trio(t, newNetwork())
	a.Failed(b.id, errors.New("connection refused"))
	await(t, "3: a=alive b=suspect c=alive", a)
	if m, _ := a.Snapshot().Member(b.id); m.Live {
		t.Errorf("a suspect member is live")
	}
	await(t, "3: a=alive b=alive c=alive", c)
	a.Answered(b.id)
	await(t, "3: a=alive b=alive c=alive", a)
}

func TestTheSameNodeReturnsOnAnotherPort(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	b.kill()
	b = net.start(t, named("b"), data(b))
	await(t, "3: a=alive b=alive c=alive", a, b, c)
	awaitAddress(t, a, b)
	awaitAddress(t, c, b)
}

// awaitAddress waits until n knows where to reach of.
func awaitAddress(t *testing.T, n, of *node) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		address, _ := n.Address(of.id)
		if address == of.address && strings.HasSuffix(n.picture(), "b=alive c=alive") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s reaches %s at %s, want %s; sees %s", n.config.Name, of.config.Name, address, of.address, n.picture())
		}
	}
}

func TestANewNodeUnderADeadOnesNameReplacesIt(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	b.kill()
	b2 := net.start(t, named("b"), seedsOf(a)) // at once: gossip still takes the old one for alive
	await(t, "3: a=alive b=alive c=alive", a, b2, c)
	if m, known := a.Snapshot().Member(b2.id); !known || !m.Counted {
		t.Errorf("the new b does not count: %s", a.picture())
	}
	if _, known := a.Snapshot().Member(b.id); known {
		t.Errorf("the old b is still a member")
	}
	if err := a.Admit(t.Context(), b.hello()); !errors.Is(err, membership.ErrRemoved) {
		t.Errorf("a request of the old b: got %v, want ErrRemoved", err)
	}
}

func TestANewNodeAtADeadOnesAddressReplacesIt(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	b.kill()
	d := net.start(t, named("d"), seedsOf(a), at(b.address))
	await(t, "3: a=alive c=alive d=alive", a, c, d)
}

func TestANewNodeUnderALiveOnesNameIsAnotherMember(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	d := net.start(t, named("b"), seedsOf(a))
	await(t, "4: a=alive b=alive b=alive c=alive", a, b, c, d)
}

func TestASeedThatIsDownAtStartIsTriedForEver(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	address := a.address
	a.kill()
	b := net.start(t, named("b"), seeds(address))
	await(t, "0: b=joining", b)
	select {
	case err := <-b.Fatal():
		t.Fatal(err)
	case <-time.After(6 * pace): // longer than FoundAfter: it must not found a cluster of its own
	}
	await(t, "0: b=joining", b)
	a = net.start(t, named("a"), at(address))
	await(t, "2: a=alive b=alive", a, b)
}

func TestASeedThatIsOneselfMakesAClusterOfOne(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	address := a.address
	a.kill()
	b := net.start(t, named("b"), at(address), seeds(address, strings.Replace(address, "127.0.0.1", "localhost", 1)))
	await(t, "0: b=joining", b)
	await(t, "1: b=alive", b)
}

func TestThreeNodesThatNameEachOtherFoundOneCluster(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	var addresses []string
	for range 3 {
		n := net.start(t)
		addresses = append(addresses, n.address)
		n.kill()
	}
	a := net.start(t, named("a"), at(addresses[0]), seeds(addresses...))
	b := net.start(t, named("b"), at(addresses[1]), seeds(addresses...))
	c := net.start(t, named("c"), at(addresses[2]), seeds(addresses...))
	await(t, "3: a=alive b=alive c=alive", a, b, c)
	sameCluster(t, a, b, c)
}

func TestAllNodesRestartAtOnceWithoutSeeds(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	for _, n := range []*node{a, b, c} {
		n.kill()
	}
	a = net.start(t, named("a"), data(a), at(a.address))
	b = net.start(t, named("b"), data(b), at(b.address))
	c = net.start(t, named("c"), data(c), at(c.address))
	await(t, "3: a=alive b=alive c=alive", a, b, c)
}

func TestALongSplitHeals(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	net.split(c)
	await(t, "3: a=alive b=alive c=failed", a, b)
	await(t, "3: a=failed b=failed c=alive", c)
	waitUntilForgotten(t)
	net.heal()
	await(t, "3: a=alive b=alive c=alive", a, b, c)
}

// waitUntilForgotten lets pass the time after which memberlist has forgotten the dead.
func waitUntilForgotten(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Log("short: the split is not longer than memberlist remembers")
		return
	}
	time.Sleep(40 * pace) // it is this time that the test is about, not a state
}

func TestAnotherClusterAtAReusedAddressIsKeptOut(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	b.kill()
	x := net.start(t, named("x"), at(b.address))
	y := net.start(t, named("y"), seedsOf(x))
	await(t, "2: x=alive y=alive", x, y)
	await(t, "3: a=alive b=failed c=alive", a, c)
	time.Sleep(8 * pace) // long enough for several rejoins; nothing may come of them
	await(t, "2: x=alive y=alive", x, y)
	await(t, "3: a=alive b=failed c=alive", a, c)
	if err := a.Admit(t.Context(), x.hello()); !errors.Is(err, membership.ErrOtherCluster) {
		t.Errorf("a request from another cluster: got %v, want ErrOtherCluster", err)
	}
}

func TestClustersOfOtherNamesDoNotMix(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b := net.start(t, named("b"), cluster("other"), seedsOf(a))
	time.Sleep(8 * pace) // long enough for several tries
	await(t, "1: a=alive", a)
	await(t, "0: b=joining", b)
}

func TestAClusterOfOneJoinsWhenToldTo(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	d := net.start(t, named("d"))
	await(t, "1: d=alive", d)
	d.stop()
	d = net.start(t, named("d"), data(d), at(d.address), seedsOf(c))
	await(t, "4: a=alive b=alive c=alive d=alive", a, b, c, d)
	sameCluster(t, a, b, c, d)
}

func TestTwoClustersOfOneBecomeOne(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b := net.start(t, named("a")), net.start(t, named("b"))
	a.kill()
	b.kill()
	a = net.start(t, named("a"), data(a), at(a.address), seedsOf(b))
	b = net.start(t, named("b"), data(b), at(b.address), seedsOf(a))
	await(t, "2: a=alive b=alive", a, b)
	sameCluster(t, a, b)
}

func TestALearnerThatIsNotSyncedDoesNotCount(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b := net.start(t, named("b"), seedsOf(a), unsynced())
	await(t, "1: a=alive b=syncing", a, b)
	if m, _ := a.Snapshot().Member(b.id); !m.Live || m.Counted {
		t.Errorf("learner: got %+v, want live and not counted", m)
	}
	b.SetSynced(true)
	await(t, "2: a=alive b=alive", a, b)
}

func TestALearnerThatMeetsOnlyAMinorityDoesNotCount(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	net.split(c)
	await(t, "3: a=failed b=failed c=alive", c)
	d := net.start(t, named("d"), at("127.0.0.1:0"), seedsOf(c), func(n *node) {})
	net.split(d)
	await(t, "3: a=failed b=failed c=alive d=syncing", c)
	time.Sleep(8 * pace) // it is tried again and again meanwhile
	await(t, "3: a=failed b=failed c=alive d=syncing", c)
	net.heal()
	await(t, "4: a=alive b=alive c=alive d=alive", a, b, c, d)
}

func TestForgetShrinksTheRosterByAMajority(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	for target, want := range map[string]error{"b": membership.ErrMemberAlive, "x": membership.ErrUnknownMember} {
		if err := a.Forget(t.Context(), target, false); !errors.Is(err, want) {
			t.Errorf("forget %s: got %v, want %v", target, err, want)
		}
	}
	b.kill()
	await(t, "3: a=alive b=failed c=alive", a, c)
	if err := c.Forget(t.Context(), "b", false); err != nil {
		t.Fatal(err)
	}
	await(t, "2: a=alive c=alive", a, c)
	c.kill()
	await(t, "2: a=alive c=failed", a)
	if err := a.Forget(t.Context(), c.id, false); !errors.Is(err, membership.ErrNoMajority) {
		t.Errorf("forget without a majority: got %v, want ErrNoMajority", err)
	}
	if err := a.Forget(t.Context(), c.id, true); err != nil {
		t.Errorf("forced: %v", err)
	}
	await(t, "1: a=alive", a)
}

func TestForgetAsksWhichOfTwoWithOneName(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b1 := net.start(t, named("b"), seedsOf(a))
	b2 := net.start(t, named("b"), seedsOf(a))
	await(t, "3: a=alive b=alive b=alive", a)
	var ambiguous *membership.AmbiguousError
	if err := a.Forget(t.Context(), "b", false); !errors.As(err, &ambiguous) || len(ambiguous.IDs) != 2 {
		t.Errorf("got %v, want both ids %s and %s", err, b1.id, b2.id)
	}
}

func TestAForgottenNodeIsToldSo(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	b.kill()
	await(t, "3: a=alive b=failed c=alive", a, c)
	if err := a.Forget(t.Context(), "b", false); err != nil {
		t.Fatal(err)
	}
	b = net.start(t, named("b"), data(b), at(b.address))
	wantFatal(t, b, membership.ErrRemoved)
	await(t, "2: a=alive c=alive", a, c)
}

func TestATwinIsRefused(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	for _, asked := range []*node{a, c} { // as any request between nodes does
		if err := asked.Admit(t.Context(), b.hello()); err != nil {
			t.Fatal(err)
		}
	}
	twin := net.start(t, named("b"), copied(b))
	wantFatal(t, twin, membership.ErrTwin)
	twin.stop()
	if err := a.Admit(t.Context(), twin.hello()); !errors.Is(err, membership.ErrTwin) {
		t.Errorf("request of the twin: got %v, want ErrTwin", err)
	}
	if err := a.Admit(t.Context(), b.hello()); err != nil {
		t.Errorf("request of the first: got %v, want it served", err)
	}
	if err := b.Admit(t.Context(), twin.hello()); !errors.Is(err, membership.ErrTwin) {
		t.Errorf("request of the twin to the first: got %v, want ErrTwin", err)
	}
	await(t, "3: a=alive b=alive c=alive", a, b, c)
}

func wantFatal(t *testing.T, n *node, want error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case err := <-n.Fatal():
		if !errors.Is(err, want) {
			t.Errorf("fatal: got %v, want %v", err, want)
		}
	case <-ctx.Done():
		t.Errorf("no fatal error, want %v", want)
	}
}
