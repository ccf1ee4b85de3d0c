package membership_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/membership"
)

// holds fails the test if cond becomes false within a while that is long for what would break it.
func holds(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(8 * pace); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if !cond() {
			t.Fatalf("it does not hold that %s", what)
		}
	}
}

func TestALearnerIsShownOnlyOnceItIsEnrolledDurably(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	a.disk.fail(errors.New("no space"))
	b := net.start(t, named("b"), seedsOf(a), unsynced())
	await(t, "1: a=alive b=syncing", b)
	holds(t, "a learner that could not be saved is given nothing", func() bool {
		m, _ := a.Snapshot().Member(b.id)
		return !m.Enrolled && !m.Live && m.State != membership.Syncing
	})
	a.disk.fail(nil)
	await(t, "1: a=alive b=syncing", a)
	if saved, _ := a.disk.LoadState("roster"); !strings.Contains(string(saved), b.id) {
		t.Errorf("the learner is shown but not saved:\n%s", saved)
	}
	if m, _ := a.Snapshot().Member(b.id); !m.Enrolled || !m.Live {
		t.Errorf("learner: got %+v, want it enrolled and live", m)
	}
}

func TestANodeIsServedOnlyOnceItIsEnrolledDurably(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b := membership.Hello{ID: randomID(), ClusterID: a.Snapshot().ClusterID, Address: "127.0.0.1:1", Origin: 1}
	full := errors.New("no space")
	a.disk.fail(full)
	if err := a.Admit(t.Context(), b); !errors.Is(err, full) {
		t.Errorf("the disk is full: got %v, want %v", err, full)
	}
	a.disk.fail(nil)
	if err := a.Admit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if m, _ := a.Snapshot().Member(b.ID); !m.Enrolled || m.Live {
		t.Errorf("a node that asked, but does not gossip: got %+v, want it enrolled and not live", m)
	}
	if saved, _ := a.disk.LoadState("roster"); !strings.Contains(string(saved), b.ID) {
		t.Errorf("a node that asked is not saved:\n%s", saved)
	}
	joining := membership.Hello{ID: randomID(), Address: "127.0.0.1:2", Origin: 1}
	if err := a.Admit(t.Context(), joining); err != nil {
		t.Fatal(err)
	}
	if _, known := a.Snapshot().Member(joining.ID); known {
		t.Errorf("a node without a cluster is enrolled")
	}
}

func TestANodeThatIsStillJoiningIsShownButNotLive(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	address := a.address
	a.kill()
	b := net.start(t, named("b"), seeds(address))
	c := net.start(t, named("c"), at(address), seeds(address))
	for _, other := range []*node{b, c} {
		for deadline := time.Now().Add(20 * time.Second); other.picture() != "2: b=alive c=alive"; {
			for _, m := range other.Snapshot().Members {
				if m.State == membership.Joining && m.ID != other.id && (m.Live || m.Enrolled) {
					t.Fatalf("%s takes a node that joins no cluster yet for %+v", other.config.Name, m)
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s sees %q", other.config.Name, other.picture())
			}
		}
	}
}

func TestALearnerThatIsAwayIsKeptWithItsName(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b := net.start(t, named("b"), seedsOf(a), unsynced())
	await(t, "1: a=alive b=syncing", a, b)
	awaitSaved(t, a, "a", "b")
	awaitLive(t, a, b.id, true)
	b.kill()
	awaitLive(t, a, b.id, false)
	a.kill()
	a = net.start(t, named("a"), data(a), at(a.address))
	if got, want := a.picture(), "1: a=alive b=syncing"; got != want {
		t.Errorf("after a restart: got %q, want %q", got, want)
	}
	b = net.start(t, named("b"), data(b), at(b.address), unsynced())
	awaitLive(t, a, b.id, true)
	b.SetSynced(true)
	await(t, "2: a=alive b=alive", a, b)
}

// awaitLive waits until n takes a node for live, or for not live.
func awaitLive(t *testing.T, n *node, id string, want bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if m, _ := n.Snapshot().Member(id); m.Live == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s sees %q, want live %v of %s", n.config.Name, n.picture(), want, id)
		}
	}
}

func TestALearnerThatIsAwayIsForgottenEverywhereAndForEver(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	d := net.start(t, named("d"), seedsOf(a), unsynced())
	await(t, "3: a=alive b=alive c=alive d=syncing", a, b, c, d)
	if err := a.Forget(t.Context(), "d", false); !errors.Is(err, membership.ErrMemberAlive) {
		t.Errorf("a live learner: got %v, want ErrMemberAlive", err)
	}
	d.kill()
	for _, n := range []*node{a, b, c} {
		awaitLive(t, n, d.id, false)
	}
	if err := a.Forget(t.Context(), "d", false); err != nil {
		t.Fatal(err)
	}
	await(t, "3: a=alive b=alive c=alive", a, b, c)
	d = net.start(t, named("d"), data(d), at(d.address))
	wantFatal(t, d, membership.ErrRemoved)
	await(t, "3: a=alive b=alive c=alive", a, b, c)
	for _, n := range []*node{a, b, c} {
		if err := n.Admit(t.Context(), d.hello()); !errors.Is(err, membership.ErrRemoved) {
			t.Errorf("%s: request of the forgotten learner: got %v, want ErrRemoved", n.config.Name, err)
		}
	}
}

func TestAMachineThatWasWipedSeveralTimesLeavesNoGhosts(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	b.kill()
	for range 2 {
		b = net.start(t, named("b"), seedsOf(a), unsynced())
		awaitLive(t, a, b.id, true)
		b.kill()
	}
	b = net.start(t, named("b"), seedsOf(a))
	await(t, "3: a=alive b=alive c=alive", a, b, c)
}

func TestALearnerWithAMembersNameIsNoGhostWhileItAnswers(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b := net.start(t, named("b"), seedsOf(a))
	await(t, "2: a=alive b=alive", a, b)
	other := net.start(t, named("b"), seedsOf(a), unsynced())
	await(t, "2: a=alive b=alive b=syncing", a, b)
	for _, n := range []*node{a, b} {
		n.Failed(other.id, time.Now(), errors.New("slow"))
	}
	holds(t, "a learner that gossips is kept", func() bool {
		_, known := a.Snapshot().Member(other.id)
		return known
	})
	other.SetSynced(true)
	a.Answered(other.id)
	b.Answered(other.id)
	await(t, "3: a=alive b=alive b=alive", a, b, other)
}
