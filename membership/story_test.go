package membership_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	a.Failed(b.id, time.Now(), errors.New("connection refused"))
	await(t, "3: a=alive b=suspect c=alive", a)
	if m, _ := a.Snapshot().Member(b.id); m.Live {
		t.Errorf("a suspect member is live")
	}
	await(t, "3: a=alive b=alive c=alive", c)
	a.Answered(b.id)
	await(t, "3: a=alive b=alive c=alive", a)
}

// A request that was on its way when a split healed fails after the first that got through.
func TestWhatWasSentBeforeAMemberCameBackSaysNothingOfIt(t *testing.T) {
	t.Parallel()
	a, b, _ := trio(t, newNetwork())
	before := time.Now()
	a.Failed(b.id, time.Now(), errors.New("cut off"))
	a.Answered(b.id)
	a.Failed(b.id, before, errors.New("cut off"))
	await(t, "3: a=alive b=alive c=alive", a)
	a.Failed(b.id, time.Now(), errors.New("cut off again"))
	await(t, "3: a=alive b=suspect c=alive", a)
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
	for _, n := range []*node{a, b2, c} {
		awaitGone(t, n, b)
	}
	await(t, "3: a=alive b=alive c=alive", a, b2, c)
	if m, known := a.Snapshot().Member(b2.id); !known || !m.Counted {
		t.Errorf("the new b does not count: %s", a.picture())
	}
	if err := a.Admit(t.Context(), b.hello()); !errors.Is(err, membership.ErrRemoved) {
		t.Errorf("a request of the old b: got %v, want ErrRemoved", err)
	}
}

// awaitGone waits until n is in a cluster and does not know of gone.
func awaitGone(t *testing.T, n, gone *node) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s := n.Snapshot()
		if _, known := s.Member(gone.id); s.Joined() && !known {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s sees %s, with the old %s in it", n.config.Name, n.picture(), gone.config.Name)
		}
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
	b.stop()
	if _, err := b.reopen(net.cluster); !errors.Is(err, membership.ErrOtherName) {
		t.Errorf("data of another cluster: got %v, want ErrOtherName", err)
	}
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
	if err := a.Forget(t.Context(), c.id, false); !errors.Is(err, membership.ErrNoMajority) || !errors.Is(err, membership.ErrMinority) {
		t.Errorf("forget without a majority: got %v, want ErrNoMajority and ErrMinority", err)
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

func TestNodesThatJoinedAtOnceFindEachOtherWithoutTheSeed(t *testing.T) {
	t.Parallel()
	for range 3 {
		net := newNetwork()
		a := net.start(t, named("a"))
		b, c := net.start(t, named("b"), seedsOf(a)), net.start(t, named("c"), seedsOf(a))
		await(t, "3: a=alive b=alive c=alive", a, b, c)
		for _, n := range []*node{a, b, c} {
			awaitSaved(t, n, "a", "b", "c")
			n.kill()
		}
		b, c = net.start(t, named("b"), data(b), at(b.address)), net.start(t, named("c"), data(c), at(c.address))
		await(t, "3: a=failed b=alive c=alive", b, c)
	}
}

// awaitSaved waits until the node's disk holds the addresses of the members with these names.
func awaitSaved(t *testing.T, n *node, names ...string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		saved, _ := n.disk.LoadState("members")
		missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return strings.Contains(string(saved), fmt.Sprintf(`"n": %q`, name))
		})
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has not saved %v:\n%s", n.config.Name, missing, saved)
		}
	}
}

func TestThreeClustersOfOneThatNameEachOtherBecomeOne(t *testing.T) {
	t.Parallel()
	for range 4 {
		net := newNetwork()
		a, b, c := net.start(t, named("a")), net.start(t, named("b")), net.start(t, named("c"))
		for _, n := range []*node{a, b, c} {
			n.kill()
		}
		all := []string{a.address, b.address, c.address}
		a = net.start(t, named("a"), data(a), at(a.address), seeds(all...))
		b = net.start(t, named("b"), data(b), at(b.address), seeds(all...))
		c = net.start(t, named("c"), data(c), at(c.address), seeds(all...))
		await(t, "3: a=alive b=alive c=alive", a, b, c)
		sameCluster(t, a, b, c)
	}
}

func TestANodeWhoseClockWasSetBackIsHeardAgain(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	fast := func(ahead time.Duration) option {
		return func(n *node) { n.config.Now = func() time.Time { return time.Now().Add(ahead) } }
	}
	a := net.start(t, named("a"))
	b := net.start(t, named("b"), seedsOf(a), fast(time.Hour))
	await(t, "2: a=alive b=alive", a, b)
	b.stop()
	await(t, "2: a=alive b=stopped", a)
	b.disk.SaveState("members", []byte("{}")) // it does not even remember
	b = net.start(t, named("b"), data(b), at(b.address))
	await(t, "2: a=alive b=alive", a, b)
}

func TestAMemberWhoseDiskFailsKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	lowest := slices.MinFunc([]*node{a, b, c}, func(x, y *node) int { return strings.Compare(x.id, y.id) })
	lowest.disk.fail(errors.New("disk is latched"))
	d := net.start(t, named("d"), seedsOf(a, b, c))
	rest := slices.DeleteFunc([]*node{a, b, c, d}, func(n *node) bool { return n == lowest })
	await(t, "4: a=alive b=alive c=alive d=alive", rest...)
}

func TestAMemberThatAnotherHearsIsNotRemoved(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	_ = c
	remove := []byte(fmt.Sprintf(`{"agree":{"from":%s,"base":"x","ballot":{"round":9,"node":%q},"want":{"remove":%q}}}`,
		knowledge(t, a), a.id, c.id))
	if _, err := b.Consent(t.Context(), a.hello(), remove); !errors.Is(err, membership.ErrMemberAlive) {
		t.Errorf("promise to remove a member that is alive here: got %v, want ErrMemberAlive", err)
	}
	two := []byte(`{"ping":true,"news":{}}`)
	if _, err := b.Consent(t.Context(), a.hello(), two); err == nil {
		t.Errorf("a message that asks for two things was answered")
	}
}

// knowledge returns what a node tells of the roster, as JSON.
func knowledge(t *testing.T, n *node) string {
	t.Helper()
	var news struct {
		Knowledge json.RawMessage `json:"knowledge"`
	}
	if err := json.Unmarshal(n.State(), &news); err != nil {
		t.Fatal(err)
	}
	return string(news.Knowledge)
}

func TestWhatOneNodeKnowsOfTheRosterAnotherTakesIn(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b := net.start(t, named("b"), seedsOf(a))
	await(t, "2: a=alive b=alive", a, b)
	net.split(b)
	b.kill() // a goes on alone, by force
	await(t, "2: a=alive b=failed", a)
	if err := a.Forget(t.Context(), "b", true); err != nil {
		t.Fatal(err)
	}
	c := net.start(t, named("c"), copied(b))
	if c.Stamp() == a.Stamp() {
		t.Fatal("stamps are equal before the merge")
	}
	c.disk.fail(errors.New("no space"))
	if err := c.Merge(a.State()); err == nil {
		t.Errorf("a roster that cannot be saved was merged")
	}
	c.disk.fail(nil)
	if err := c.Merge(a.State()); err != nil {
		t.Fatal(err)
	}
	if got, want := c.Stamp(), a.Stamp(); got != want {
		t.Errorf("stamp after the merge: got %s, want %s", got, want)
	}
	wantFatal(t, c, membership.ErrRemoved)
	if err := c.Merge([]byte("nonsense")); err == nil {
		t.Errorf("nonsense was merged")
	}
}

// awaitState waits until n sees a node in a state, "" if it does not show it at all.
func awaitState(t *testing.T, n *node, id string, want membership.State) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		m, _ := n.Snapshot().Member(id)
		if m.State == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s sees %s as %q, want %q", n.config.Name, id, m.State, want)
		}
	}
}

func TestWhoIsEnrolledIsKnownForGoodAndWhoWasRemovedIsNot(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	learner, stamp := randomID(), b.Stamp()
	if err := a.Enroll(learner); err != nil {
		t.Fatal(err)
	}
	if err := b.Merge(a.State()); err != nil {
		t.Fatal(err)
	}
	if b.Stamp() == stamp || !strings.Contains(knowledge(t, b), learner) {
		t.Errorf("the learner did not spread: %s", knowledge(t, b))
	}
	if saved, _ := b.disk.LoadState("roster"); !strings.Contains(string(saved), learner) {
		t.Errorf("the learner is not on disk:\n%s", saved)
	}
	stamp = b.Stamp()
	if err := errors.Join(b.Enroll(learner), b.Enroll(a.id)); err != nil || b.Stamp() != stamp {
		t.Errorf("who is known was enrolled again: %v", err)
	}
	if m, known := a.Snapshot().Member(learner); !known || m.State != membership.Syncing || m.Live || m.Counted || !m.Enrolled {
		t.Errorf("a learner that was never heard: got %+v, %v, want syncing, enrolled and not live", m, known)
	}
	c.kill()
	awaitState(t, a, c.id, membership.Failed)
	if err := a.Forget(t.Context(), c.id, false); err != nil {
		t.Fatal(err)
	}
	if err := a.Enroll(c.id); !errors.Is(err, membership.ErrRemoved) {
		t.Errorf("who was forgotten: got %v, want ErrRemoved", err)
	}
}

// A member that runs on an old copy of its data may have forgotten what it agreed to.
func TestAMemberThatIsNotSyncedAgreesToNoChange(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	c.kill()
	await(t, "3: a=alive b=alive c=failed", a, b)
	b.kill()
	b = net.start(t, named("b"), data(b), at(b.address), unsynced())
	await(t, "3: a=alive b=alive c=failed", a, b)
	for _, n := range []*node{a, b} {
		if err := n.Forget(t.Context(), "c", false); !errors.Is(err, membership.ErrNoMajority) {
			t.Errorf("forget at %s: got %v, want ErrNoMajority", n.config.Name, err)
		}
	}
	b.SetSynced(true)
	if err := a.Forget(t.Context(), "c", false); err != nil {
		t.Errorf("forget once b is synced: %v", err)
	}
	await(t, "2: a=alive b=alive", a, b)
}

func TestStatsCountChangesOfTheRosterAndGossip(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	before := a.Stats()
	for _, name := range []string{"msg.alive", "udp.sent", "gossip"} {
		if got := before.Gossip[name]; got.Count == 0 || got.Sum <= 0 {
			t.Errorf("%s: got %+v, want something", name, got)
		}
	}
	if got := before.Gossip["gossip"]; got.Sum/float64(got.Count) > 1 {
		t.Errorf("a round of gossip: got %v s on average, want far less than one", got.Sum/float64(got.Count))
	}
	b.kill()
	await(t, "3: a=alive b=failed c=alive", a, c)
	if got := a.Stats(); got.RosterChanges != before.RosterChanges {
		t.Errorf("after a failure: got %d changes of the roster, want %d", got.RosterChanges, before.RosterChanges)
	}
	if err := c.Forget(t.Context(), "b", false); err != nil {
		t.Fatal(err)
	}
	await(t, "2: a=alive c=alive", a, c)
	if got := a.Stats(); got.RosterChanges != before.RosterChanges+1 {
		t.Errorf("after one is forgotten: got %d changes of the roster, want %d", got.RosterChanges, before.RosterChanges+1)
	}
	if dead := a.Stats().Gossip["msg.dead"].Sum + a.Stats().Gossip["msg.suspect"].Sum; dead == 0 {
		t.Error("got no message of gossip about a member that failed")
	}
}

// TestWhatMemberlistMeasuresIsOfOneNode: it tells one place for the whole process.
func TestWhatMemberlistMeasuresIsOfOneNode(t *testing.T) {
	t.Parallel()
	a := newNetwork().start(t, named("a"))
	b, c, d := trio(t, newNetwork())
	for _, n := range []*node{b, c, d} {
		if n.Stats().Gossip["udp.sent"].Sum == 0 {
			t.Errorf("%s: got no packets, want some", n.config.Name)
		}
	}
	if got := a.Stats().Gossip["udp.sent"].Sum; got != 0 {
		t.Errorf("a node alone: got %v bytes of packets, want none", got)
	}
	b.stop()
	before := b.Stats().Gossip["udp.sent"].Sum
	await(t, "3: a=stopped b=alive c=alive", c, d)
	if got := b.Stats().Gossip["udp.sent"].Sum; got != before {
		t.Errorf("of a node that stopped: got %v bytes, want %v as before", got, before)
	}
}
