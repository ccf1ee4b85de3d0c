package roster_test

import (
	"context"
	"errors"
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

	mu      sync.Mutex               // guards disks and inForce
	inForce map[string]roster.Roster // by hash: every roster that was ever in force anywhere
}

var errLost = errors.New("message lost")

// found returns a world of n members, ids 1 to n.
func found(t *testing.T, n int, rng *rand.Rand) *world {
	w := &world{
		t: t, rand: rng, ledgers: map[string]*roster.Ledger{}, disks: map[string][]byte{},
		side: map[string]int{}, inForce: map[string]roster.Roster{},
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
func (w *world) gossip(side int) {
	for a, from := range w.ledgers {
		for b, to := range w.ledgers {
			if a != b && w.side[a] == side && w.side[b] == side {
				if err := to.Merge(from.Knowledge()); err != nil {
					w.t.Errorf("%s merges from %s: %v", b, a, err)
				}
				w.note(to)
			}
		}
	}
}

// rule is how a node judges whether it has a quorum. The zero rule is the real one; the others
// are wrong on purpose.
type rule struct {
	deaf     bool // does not take in what the answers of the others tell about the roster
	oneOnly  bool // counts in the roster in force alone, not in those that may follow
	liveList bool // counts a majority of those it can reach
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

func (w *world) checkChain() {
	w.t.Helper()
	all := make([]roster.Roster, 0, len(w.inForce))
	for _, r := range w.inForce {
		all = append(all, r)
	}
	for i, a := range all {
		for _, b := range all[i+1:] {
			if !a.Contains(b) && !b.Contains(a) {
				w.t.Errorf("two rosters in force that are not on one chain:\n%v\n%v", a, b)
			}
		}
	}
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
		w.checkChain()
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
// form one chain, and never do two sides of a split both pass for a quorum.
func TestRandomSplitsCrashesAndRivalsKeepOneChain(t *testing.T) {
	inWorlds(t, func(t *testing.T, seed uint64) {
		if runRandomWorld(t, seed, rule{}) {
			t.Errorf("seed %d: both sides of a split pass for a quorum", seed)
		}
	})
}

// runRandomWorld reports whether both sides of a split ever had a quorum by rule.
func runRandomWorld(t *testing.T, seed uint64, rule rule) (bothPass bool) {
	rng := seeded(seed)
	w := found(t, 1+rng.IntN(5), rng)
	w.loss = []float64{0, 0.1, 0.3}[rng.IntN(3)]
	next := 10
	for range rounds {
		nodes := slices.Sorted(maps.Keys(w.ledgers))
		for _, node := range nodes {
			w.side[node] = rng.IntN(2)
		}
		var proposals []func()
		for range 1 + rng.IntN(3) {
			next++
			proposals = append(proposals, w.proposal(nodes[rng.IntN(len(nodes))], id(next)))
		}
		var proposers sync.WaitGroup
		for _, propose := range proposals {
			proposers.Go(propose)
		}
		proposers.Wait()
		bothPass = bothPass || w.passes(0, rule) && w.passes(1, rule)
		w.start(nodes[rng.IntN(len(nodes))])
		w.admitNewcomers()
		bothPass = bothPass || w.passes(0, rule) && w.passes(1, rule)
		if rng.IntN(2) == 0 {
			w.gossip(0)
			w.gossip(1)
		}
	}
	w.checkChain()
	return bothPass
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

// proposal returns a random change by node, to be run: newcomer joins, replaces somebody, or
// somebody is removed.
func (w *world) proposal(node, newcomer string) func() {
	members := w.ledgers[node].Roster().Members()
	somebody := members[w.rand.IntN(len(members))]
	c := []roster.Change{{Add: newcomer}, {Add: newcomer, Remove: somebody}, {Remove: somebody}}[w.rand.IntN(3)]
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
