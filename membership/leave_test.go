package membership_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/membership"
)

// awaitSynced waits until the nodes know of themselves that they are synced, as members: before that
// they agree to nothing.
func awaitSynced(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) { // between two looks
			if self, _ := n.Snapshot().Member(n.id); self.Synced {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not synced", n.config.Name)
			}
		}
	}
}

func TestAMemberThatLeavesLowersN(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	awaitSynced(t, a, b, c)
	if err := c.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc([]*node{a, b}, func(n *node) bool { return len(n.Snapshot().Rosters[0]) == 2 }) {
		t.Errorf("nobody knows: a sees %q, b sees %q", a.picture(), b.picture())
	}
	wantFatal(t, c, membership.ErrRemoved)
	c.stop()
	await(t, "2: a=alive b=alive", a, b)
	for name, n := range map[string]*node{"a": a, "b": b} {
		if err := n.Admit(t.Context(), c.hello()); !errors.Is(err, membership.ErrRemoved) {
			t.Errorf("%s: request of who left: got %v, want ErrRemoved", name, err)
		}
	}
	if _, err := c.reopen(net.cluster); !errors.Is(err, membership.ErrRemoved) {
		t.Errorf("start again: got %v, want ErrRemoved", err)
	}
}

func TestOfTwoThatLeaveAtOnceOneStays(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	if err := a.Leave(t.Context()); !errors.Is(err, membership.ErrLastMember) {
		t.Errorf("alone: got %v, want ErrLastMember", err)
	}
	b := net.start(t, named("b"), seedsOf(a))
	await(t, "2: a=alive b=alive", a, b)
	awaitSynced(t, a, b)
	var both sync.WaitGroup
	errs := make([]error, 2)
	for i, n := range []*node{a, b} {
		both.Go(func() { errs[i] = n.Leave(t.Context()) })
	}
	both.Wait()
	if errs[0] != nil {
		a, b = b, a
		slices.Reverse(errs)
	}
	if errs[0] != nil || !errors.Is(errs[1], membership.ErrLastMember) {
		t.Fatalf("got %v, want nil and ErrLastMember", errs)
	}
	a.stop()
	await(t, "1: "+b.config.Name+"=alive", b)
}

func TestOnlyAMemberWithAMajorityLeaves(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	d := net.start(t, named("d"), seedsOf(a), unsynced())
	await(t, "3: a=alive b=alive c=alive d=syncing", a, d)
	if err := d.Leave(t.Context()); !errors.Is(err, membership.ErrNotMember) {
		t.Errorf("learner: got %v, want ErrNotMember", err)
	}
	d.kill()
	b.kill()
	c.kill()
	await(t, "3: a=alive b=failed c=failed d=syncing", a)
	if err := a.Leave(t.Context()); !errors.Is(err, membership.ErrMinority) {
		t.Errorf("one of three: got %v, want ErrMinority", err)
	}
	select {
	case err := <-a.Fatal():
		t.Errorf("it must end, %v, though it did not leave", err)
	default:
	}
}

// The one that stays has agreed, but cannot find out by itself that it is alone now.
func TestWhoLeavesStaysUntilAnotherKnows(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b := net.start(t, named("b"), seedsOf(a))
	await(t, "2: a=alive b=alive", a, b)
	awaitSynced(t, a, b)
	net.lose(func(message string) bool { return strings.HasPrefix(message, `{"news":`) })
	ctx, cancel := context.WithTimeout(t.Context(), 5*pace) // gossip tells it after 15
	defer cancel()
	if err := a.Leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("nobody hears it: got %v, want DeadlineExceeded", err)
	}
	select {
	case err := <-a.Fatal():
		t.Errorf("it must end, %v, before another knows", err)
	default:
	}
	net.lose(func(string) bool { return false })
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := b.picture(), "1: b=alive"; got != want {
		t.Errorf("who stays: got %q, want %q", got, want)
	}
	wantFatal(t, a, membership.ErrRemoved)
}

// The answer to who left may get lost, too: from then on the others refuse what else it asks.
func TestWhoLeftTellsThoseThatRefuseIt(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b := net.start(t, named("b"), seedsOf(a))
	await(t, "2: a=alive b=alive", a, b)
	awaitSynced(t, a, b)
	net.lose(func(message string) bool { return strings.HasPrefix(message, `{"news":`) })
	ctx, cancel := context.WithTimeout(t.Context(), pace)
	defer cancel()
	if err := a.Leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("nobody answers: got %v, want DeadlineExceeded", err)
	}
	a.Failed(b.id, time.Now(), membership.ErrRemoved)
	net.lose(func(string) bool { return false })
	ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := a.Leave(ctx); err != nil {
		t.Errorf("b answers again: got %v", err)
	}
}

func TestWhoLeftButCouldNotTellIsNotExpectedBack(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b := net.start(t, named("b"), seedsOf(a))
	await(t, "2: a=alive b=alive", a, b)
	awaitSynced(t, a, b)
	net.lose(func(message string) bool { return strings.HasPrefix(message, `{"news":`) })
	ctx, cancel := context.WithTimeout(t.Context(), pace)
	defer cancel()
	if err := a.Leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("nobody hears it: got %v, want DeadlineExceeded", err)
	}
	a.stop()
	for deadline := time.Now().Add(20 * time.Second); strings.Contains(b.picture(), "a=alive"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("b sees %q", b.picture())
		}
	}
	if got := b.picture(); strings.Contains(got, "a=stopped") {
		t.Errorf("b sees %q, so it expects a back", got)
	}
}

// setAside is a disk on which a removed node has left what it must remember of others.
func setAside(of *node) option {
	return func(n *node) {
		kept := of.disk.copy()
		maps.DeleteFunc(kept.values, func(name string, _ []byte) bool { return name == "roster" })
		n.disk = kept
	}
}

func TestAForgottenNodeReturnsUnderANewIDByItself(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	awaitSaved(t, b, "a", "b", "c")
	b.kill()
	await(t, "3: a=alive b=failed c=alive", a, c)
	if err := a.Forget(t.Context(), "b", false); err != nil {
		t.Fatal(err)
	}
	await(t, "2: a=alive c=alive", a, c)
	b2 := net.start(t, named("b"), setAside(b)) // elsewhere: a and c still gossip to where it was
	await(t, "3: a=alive b=alive c=alive", a, b2, c)
	sameCluster(t, a, b2, c)
}

func TestNodesThatRememberMembersFoundNoClusterWithoutThem(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a, b, c := trio(t, net)
	for _, n := range []*node{a, b, c} {
		awaitSaved(t, n, "a", "b", "c")
		n.kill()
	}
	b2 := net.start(t, named("b"), setAside(b), at(b.address))
	c2 := net.start(t, named("c"), setAside(c), at(c.address), seeds(c.address)) // a seed that is nobody else
	await(t, "0: b=joining c=joining", b2, c2)
	time.Sleep(8 * pace) // longer than FoundAfter and SettleFor
	await(t, "0: b=joining c=joining", b2, c2)
	b2.kill()
	c2.kill()
	b2 = net.start(t, named("b"), data(b2), at(b.address)) // it still remembers
	await(t, "0: b=joining", b2)
	a = net.start(t, named("a"), data(a), at(a.address))
	awaitState(t, a, b2.id, membership.Syncing)
}

// After a cut in which both sides gave the other up, nobody is left in the roster.
func TestNodesThatForcedEachOtherOutFoundNothingAndRememberEachOther(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	b := net.start(t, named("b"), seedsOf(a))
	await(t, "2: a=alive b=alive", a, b)
	awaitSaved(t, a, "a", "b")
	awaitSaved(t, b, "a", "b")
	net.split(a)
	await(t, "2: a=alive b=failed", a)
	await(t, "2: a=failed b=alive", b)
	for forgotten, by := range map[string]*node{"a": b, "b": a} {
		if err := by.Forget(t.Context(), forgotten, true); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "1: a=alive", a)
	await(t, "1: b=alive", b)
	time.Sleep(2 * pace) // a look at what is to be saved
	if err := a.Merge(b.State()); err != nil {
		t.Fatal(err)
	}
	wantFatal(t, a, membership.ErrRemoved)
	time.Sleep(2 * pace)
	a.kill()
	b.kill()
	net.heal()
	a2 := net.start(t, named("a"), setAside(a), at(a.address))
	holds(t, "it founds nothing", func() bool { return a2.picture() == "0: a=joining" })
	c := net.start(t, named("c"), at(b.address)) // a new cluster where b was
	await(t, "2: a=alive c=alive", a2, c)
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

func TestWhoRemembersNobodyButItselfFoundsNothingAndSaysSo(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"))
	awaitSaved(t, a, "a")
	a.kill()
	for name, addresses := range map[string][]string{"no seeds": nil, "a seed that is none": {a.address}} {
		var log lines
		a2 := net.start(t, named("a"), setAside(a), at(a.address), seeds(addresses...), func(n *node) {
			n.config.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
		})
		holds(t, "it founds nothing", func() bool { return a2.picture() == "0: a=joining" })
		if got := log.count("started with --join"); got != 1 {
			t.Errorf("%s: got %d warnings that it may need --join, want 1", name, got)
		}
		a2.kill()
	}
}

// Only who was in a cluster must not found one.
func TestWhoFoundNoClusterBeforeItEndedMayFoundOne(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"), seeds("127.0.0.1:1"))
	holds(t, "it looks for its seed", func() bool { return a.picture() == "0: a=joining" })
	a.kill()
	a = net.start(t, named("a"), data(a), at(a.address))
	await(t, "1: a=alive", a)
}
