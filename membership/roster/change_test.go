package roster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/membership/roster"
)

// world is some ledgers, what is on their disks, and a network between them that a test cuts
// and that loses messages and answers.
type world struct {
	t       *testing.T
	rand    *rand.Rand
	loss    float64
	ledgers map[string]*roster.Ledger
	disks   map[string][]byte
	side    map[string]int
	told    map[string]roster.Knowledge // what each node knew at the last look
	learnt  map[string]bool             // ids that were enrolled anywhere

	mu      sync.Mutex               // guards disks and inForce
	inForce map[string]roster.Roster // by hash: every roster that was ever in force anywhere
}

var errLost = errors.New("message lost")

// found returns a world of n members, ids 1 to n.
func found(t *testing.T, n int, rng *rand.Rand) *world {
	w := &world{
		t: t, rand: rng, ledgers: map[string]*roster.Ledger{}, disks: map[string][]byte{},
		side: map[string]int{}, inForce: map[string]roster.Roster{},
		told: map[string]roster.Knowledge{}, learnt: map[string]bool{},
	}
	r := roster.Found(id(1))
	for i := 2; i <= n; i++ {
		r = with(t, r, roster.Change{Add: id(i)})
	}
	for i := 1; i <= n; i++ {
		w.start(id(i))
		if err := w.ledgers[id(i)].Join(roster.Roster{}, r); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// start opens the ledger of a node from its disk, forgetting what was not saved.
func (w *world) start(node string) {
	l, err := roster.Open(roster.Config{Self: node, Saved: w.disks[node], Save: func(b []byte) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.disks[node] = b
		return nil
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.ledgers[node] = l
}

func (w *world) send(from string) roster.Send {
	return func(ctx context.Context, to string, m roster.Message) (roster.Reply, error) {
		select {
		case <-time.After(time.Duration(w.rand.IntN(20)) * time.Millisecond):
		case <-ctx.Done():
			return roster.Reply{}, ctx.Err()
		}
		if w.side[from] != w.side[to] || w.rand.Float64() < w.loss {
			return roster.Reply{}, errLost
		}
		l, exists := w.ledgers[to]
		if !exists {
			return roster.Reply{}, errLost
		}
		r, err := l.Answer(m)
		if w.rand.Float64() < w.loss {
			return roster.Reply{}, errLost
		}
		return r, err
	}
}

// change lets node propose c until it is done or the patience of d is over.
func (w *world) change(node string, c roster.Change, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	l := w.ledgers[node]
	err := l.Change(ctx, w.send(node), func(r roster.Roster) (roster.Change, bool) {
		_, err := r.With(c)
		return c, err == nil
	})
	w.note(l)
	return err
}

func (w *world) note(l *roster.Ledger) {
	r := l.Roster()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inForce[r.Hash()] = r
}

// gossip lets every node on side tell every other what it knows.
func (w *world) gossip(side int, rule rule) {
	nodes := slices.Sorted(maps.Keys(w.ledgers))
	for _, from := range nodes {
		for _, to := range nodes {
			if from == to || w.side[from] != side || w.side[to] != side {
				continue
			}
			k := w.ledgers[from].Knowledge()
			if rule.revive {
				w.revive(to, k)
			} else if err := w.ledgers[to].Merge(k); err != nil {
				w.t.Errorf("%s merges from %s: %v", to, from, err)
			}
			w.note(w.ledgers[to])
		}
	}
}

// revive lets node merge k as if a roster were a set of members: whoever only one side has
// removed is back.
func (w *world) revive(node string, k roster.Knowledge) {
	ours := w.ledgers[node].Knowledge()
	merged := roster.Knowledge{Roster: roster.Roster{Cluster: ours.Roster.Cluster, Added: union(ours.Roster.Added, k.Roster.Added)}}
	for _, id := range ours.Roster.Removed {
		if k.Roster.HasRemoved(id) {
			merged.Roster.Removed = append(merged.Roster.Removed, id)
		}
	}
	for _, id := range union(ours.Learners, k.Learners) {
		if !knows(merged, id) {
			merged.Learners = append(merged.Learners, id)
		}
	}
	w.restart(node, merged)
}

func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// restart starts a node anew, to know k.
func (w *world) restart(node string, k roster.Knowledge) {
	saved, err := json.Marshal(k)
	if err != nil {
		w.t.Fatal(err)
	}
	w.disks[node] = saved
	w.start(node)
}

// rule is how a node judges whether it has a quorum, and merges. The zero rule is the real one;
// the others are wrong on purpose.
type rule struct {
	deaf     bool // does not take in what the answers of the others tell about the roster
	oneOnly  bool // counts in the roster in force alone, not in those that may follow
	liveList bool // counts a majority of those it can reach
	revive   bool // brings back who was removed, when it merges
	forget   bool // does not save learners
}

// passes reports whether some node of a side has a quorum of nodes of that side.
func (w *world) passes(side int, rule rule) bool {
	for node, l := range w.ledgers {
		if w.side[node] != side || !l.Roster().Has(node) {
			continue
		}
		coordinator := w.copyOf(node)
		for other, o := range w.ledgers {
			if w.side[other] == side && !rule.deaf {
				coordinator.Merge(o.Knowledge()) // as every answer does
			}
		}
		if w.haveQuorum(coordinator, side, rule) {
			return true
		}
	}
	return false
}

// copyOf returns a ledger with what node knows, that changes independently.
func (w *world) copyOf(node string) *roster.Ledger {
	l, err := roster.Open(roster.Config{Self: node, Saved: w.disks[node], Save: func([]byte) error { return nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func (w *world) haveQuorum(l *roster.Ledger, side int, rule rule) bool {
	if rule.liveList {
		return true
	}
	rosters := l.Rosters()
	if rule.oneOnly {
		rosters = rosters[:1]
	}
	for _, r := range rosters {
		present := 0
		for _, member := range r.Members() {
			if w.side[member] == side && w.ledgers[member] != nil {
				present++
			}
		}
		if present <= len(r.Members())/2 {
			return false
		}
	}
	return true
}

// broken returns how the rosters that were ever in force fail to be one chain, nil if they do not.
func (w *world) broken() error {
	all := slices.Collect(maps.Values(w.inForce))
	for i, a := range all {
		for _, b := range all[i+1:] {
			if !a.Contains(b) && !b.Contains(a) {
				return fmt.Errorf("two rosters in force that are not on one chain:\n%v\n%v", a, b)
			}
		}
	}
	return nil
}

// forgotten returns what some node has forgotten since the last look, nil if nothing: it knows
// for ever who was removed, and a learner until a change adds or removes it.
func (w *world) forgotten() error {
	for node, l := range w.ledgers {
		before, now := w.told[node], l.Knowledge()
		w.told[node] = now
		if slices.ContainsFunc(before.Roster.Removed, func(id string) bool { return !now.Roster.HasRemoved(id) }) {
			return fmt.Errorf("%s: %w: it knows %v after %v", node, errCameBack, now.Roster, before.Roster)
		}
		for _, id := range before.Learners {
			if !knows(now, id) {
				return fmt.Errorf("%s: %w: %s in %+v", node, errLostLearner, id, now)
			}
		}
	}
	return nil
}

func knows(k roster.Knowledge, id string) bool {
	return slices.Contains(k.Learners, id) || slices.Contains(k.Roster.Added, id) || k.Roster.HasRemoved(id)
}

// differing returns how nodes that have told each other all differ, or who is unknown to them.
func (w *world) differing() error {
	var one roster.Knowledge
	for node, l := range w.ledgers {
		k := l.Knowledge()
		if one.Roster.IsZero() {
			one = k
		}
		if !k.Roster.Equal(one.Roster) || !slices.Equal(k.Learners, one.Learners) {
			return fmt.Errorf("%s knows %+v, another node %+v", node, k, one)
		}
		for id := range w.learnt {
			if !knows(k, id) {
				return fmt.Errorf("%s does not know %s, which was enrolled somewhere: %+v", node, id, k)
			}
		}
	}
	return nil
}

func TestAMajorityAddsRemovesAndReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, 3, seeded(1))
		for _, c := range []roster.Change{{Add: id(4)}, {Remove: id(2)}, {Add: id(5), Remove: id(3)}} {
			if err := w.change(id(1), c, 5*time.Second); err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			for node := range w.ledgers {
				w.ledgers[node].Merge(w.ledgers[id(1)].Knowledge())
			}
		}
		if got, want := w.ledgers[id(1)].Roster().Members(), []string{id(1), id(4), id(5)}; !slices.Equal(got, want) {
			t.Errorf("members: got %v, want %v", got, want)
		}
		must(t, w.broken())
	})
}

func TestAMinorityChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, 4, seeded(2))
		w.side = map[string]int{id(1): 1, id(2): 1, id(5): 1}
		before := w.ledgers[id(1)].Roster()
		if err := w.change(id(1), roster.Change{Add: id(5)}, 5*time.Second); !errors.Is(err, roster.ErrNoMajority) {
			t.Errorf("half of the members: got %v, want ErrNoMajority", err)
		}
		if got := w.ledgers[id(1)].Roster(); !got.Equal(before) {
			t.Errorf("roster in force changed to %v", got)
		}
		if w.passes(1, rule{}) {
			t.Errorf("half of the old roster and a newcomer pass for a quorum")
		}
	})
}

func TestWhoHeardOfAChangeNeedsBothQuorums(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, 3, seeded(3))
		w.side = map[string]int{id(3): 1}
		if err := w.change(id(1), roster.Change{Add: id(4)}, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		w.start(id(1)) // forgets nothing that matters
		l := w.ledgers[id(3)]
		if got := len(l.Rosters()); got != 1 {
			t.Fatalf("cut off: knows %d rosters, want 1", got)
		}
		if err := l.Merge(w.ledgers[id(2)].Knowledge()); err != nil {
			t.Fatal(err)
		}
		if got := len(l.Rosters()); got != 2 || !l.Pending() {
			t.Errorf("after one acceptor's answer: knows %d rosters, want 2", got)
		}
		if err := l.Merge(w.ledgers[id(1)].Knowledge()); err != nil {
			t.Fatal(err)
		}
		if got := len(l.Rosters()); got != 1 || !l.Roster().Has(id(4)) {
			t.Errorf("after the news that it is in force: %v", l.Rosters())
		}
	})
}

// TestRandomSplitsCrashesAndRivalsKeepOneChain is invariants I7 and I8: whatever is proposed
// by whomever while messages are lost, sides are cut and nodes crash, the rosters in force
// form one chain, never do two sides of a split both pass for a quorum, and nobody forgets who
// was removed, or a learner that was not.
func TestRandomSplitsCrashesAndRivalsKeepOneChain(t *testing.T) {
	inWorlds(t, func(t *testing.T, seed uint64) {
		if err := runRandomWorld(t, seed, rule{}); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	})
}

// What can go wrong in a world.
var (
	errBothPass    = errors.New("both sides of a split pass for a quorum")
	errCameBack    = errors.New("who was removed came back")
	errLostLearner = errors.New("a learner was forgotten")
)

// runRandomWorld returns the first thing that went wrong by rule, nil if nothing did.
func runRandomWorld(t *testing.T, seed uint64, rule rule) error {
	rng := seeded(seed)
	w := found(t, 1+rng.IntN(5), rng)
	w.loss = []float64{0, 0.1, 0.3}[rng.IntN(3)]
	next := 10
	check := func() error {
		if w.passes(0, rule) && w.passes(1, rule) {
			return errBothPass
		}
		return w.forgotten()
	}
	for range rounds {
		nodes := slices.Sorted(maps.Keys(w.ledgers))
		for _, node := range nodes {
			w.side[node] = rng.IntN(2)
		}
		somebody := func() string { return nodes[rng.IntN(len(nodes))] }
		var proposals []func()
		for range 1 + rng.IntN(3) {
			next += 2
			w.enroll(somebody(), id(next))
			proposals = append(proposals, w.proposal(somebody(), id(next+1)))
		}
		var proposers sync.WaitGroup
		for _, propose := range proposals {
			proposers.Go(propose)
		}
		proposers.Wait()
		if err := check(); err != nil {
			return err
		}
		w.crash(somebody(), rule)
		w.admitNewcomers()
		if err := check(); err != nil {
			return err
		}
		if rng.IntN(2) == 0 {
			w.gossip(0, rule)
			w.gossip(1, rule)
		}
	}
	clear(w.side)
	w.gossip(0, rule)
	return errors.Join(w.forgotten(), w.broken(), w.differing())
}

// enroll makes a node that only turned up at one, or one that others know already, its learner.
func (w *world) enroll(node, newcomer string) {
	if known := slices.Sorted(maps.Keys(w.learnt)); len(known) > 0 && w.rand.IntN(3) == 0 {
		newcomer = known[w.rand.IntN(len(known))]
	}
	l := w.ledgers[node]
	if err := l.Enroll(newcomer); err != nil && !l.Roster().HasRemoved(newcomer) {
		w.t.Errorf("%s enrolls %s: %v", node, newcomer, err)
	}
	w.learnt[newcomer] = true
}

// crash starts a node anew with what it has saved.
func (w *world) crash(node string, rule rule) {
	if rule.forget {
		w.restart(node, roster.Knowledge{Roster: w.ledgers[node].Roster()})
		return
	}
	w.start(node)
}

// admitNewcomers starts the nodes that were promoted, with the roster that says so.
func (w *world) admitNewcomers() {
	for _, node := range slices.Sorted(maps.Keys(w.ledgers)) {
		r := w.ledgers[node].Roster()
		for _, member := range r.Members() {
			if w.ledgers[member] == nil && w.side[member] == w.side[node] {
				w.start(member)
				if err := w.ledgers[member].Join(roster.Roster{}, r); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
}

// proposal returns a random change by node, to be run: a newcomer or a learner joins, with or
// without replacing a member, or a member or a learner is removed.
func (w *world) proposal(node, newcomer string) func() {
	members, learners := w.ledgers[node].Roster().Members(), w.ledgers[node].Learners()
	somebody, learner := members[w.rand.IntN(len(members))], newcomer
	if len(learners) > 0 {
		learner = learners[w.rand.IntN(len(learners))]
	}
	if w.rand.IntN(2) == 0 {
		newcomer = learner
	}
	c := []roster.Change{{Add: newcomer}, {Add: newcomer, Remove: somebody}, {Remove: somebody}, {Remove: learner}}[w.rand.IntN(4)]
	w.side[newcomer] = w.rand.IntN(2)
	patience := time.Duration(w.rand.IntN(3000)) * time.Millisecond
	return func() {
		if err := w.change(node, c, patience); err != nil && !errors.Is(err, roster.ErrNoMajority) && !errors.Is(err, roster.ErrBadChange) {
			w.t.Errorf("%s proposes %+v: %v", node, c, err)
		}
	}
}

// lockedSource lets the goroutines of one bubble share a source.
type lockedSource struct {
	mu  sync.Mutex
	src rand.Source
}

func (s *lockedSource) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.src.Uint64()
}

func seeded(seed uint64) *rand.Rand {
	return rand.New(&lockedSource{src: rand.NewPCG(seed, 7)})
}
