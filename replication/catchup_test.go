package replication_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

// A program is what happens to a cluster before all faults end.
type program struct {
	nodes string
	seed  uint64 // of what the network and the disks do
	steps []step
}

// step is one event, some time after the one before.
type step struct {
	after time.Duration
	what  event
	a, b  int // which nodes
	key   string
}

type event int

const (
	write event = iota
	remove
	cut        // a and b, or heal the cut between them
	crash      // a, or restart it
	unreadable // key at a, or readable again
	events
)

func (p program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "nodes %s, seed %d\n", p.nodes, p.seed)
	for _, s := range p.steps {
		name := [...]string{"write", "remove", "cut", "crash", "unreadable"}[s.what]
		fmt.Fprintf(&b, "%6v %s %c %c %s\n", s.after, name, p.nodes[s.a], p.nodes[s.b], s.key)
	}
	return b.String()
}

// newProgram makes a program of choices: draw returns a number from 0 to below n.
func newProgram(draw func(n int) int) program {
	p := program{nodes: "abcd"[:3+draw(2)], seed: uint64(draw(1 << 30))}
	kinds := []event{write, write, write, remove, remove, cut, cut, crash, unreadable, unreadable, unreadable}
	for range 10 + draw(40) {
		p.steps = append(p.steps, step{
			after: time.Duration(draw(700)) * time.Millisecond,
			what:  kinds[draw(len(kinds))],
			a:     draw(len(p.nodes)), b: draw(len(p.nodes)),
			key: string(rune('k' + draw(6))),
		})
	}
	return p
}

// mutant spoils the protocol on purpose.
type mutant struct {
	// node changes how a node catches up.
	node func(w *world, n *node)
	// early: the disks tell dots before they are durable.
	early bool
}

// world is a cluster that a program runs in.
type world struct {
	cluster
	mutant mutant

	mu      sync.Mutex // guards the fields below
	dice    *rand.Rand
	faulty  bool
	cut     map[string]bool // "ab": what a sends to b is lost
	disks   map[string]*disk
	written map[version.Dot]replication.Record // without values: all that was ever given to a disk
	winners map[string]version.Version         // the newest of each key that was durable anywhere
}

// disk is a store as one process of a node sees it: what is under way when the process ends is
// lost.
type disk struct {
	*storetest.Memory
	w *world

	mu         sync.Mutex // guards the fields below; taken before world.mu
	ended      bool
	unreadable map[string]bool
	untimely   seen.Set // dots that are not durable yet, or never were
}

func (d *disk) Apply(records []replication.Record) []replication.Outcome {
	d.w.mu.Lock()
	for _, r := range records {
		d.w.written[r.Version.Dot] = replication.Record{Key: r.Key, Version: r.Version}
	}
	slow := time.Duration(0)
	if d.w.faulty {
		slow = time.Duration(d.w.dice.IntN(60)) * time.Millisecond
	}
	d.w.mu.Unlock()
	d.mu.Lock()
	for _, r := range records {
		d.untimely.Add(r.Version.Dot)
	}
	d.mu.Unlock()
	time.Sleep(slow)

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		failed := make([]replication.Outcome, len(records))
		for i := range failed {
			failed[i].Err = replication.ErrReadOnly
		}
		return failed
	}
	outcomes := d.Memory.Apply(records)
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	for i, r := range records {
		if outcomes[i].Err == nil && r.Version.Compare(d.w.winners[r.Key]) > 0 {
			d.w.winners[r.Key] = r.Version
		}
	}
	return outcomes
}

func (d *disk) Unite(s *seen.Set) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return replication.ErrReadOnly
	}
	return d.Memory.Unite(s)
}

func (d *disk) Get(key string) (replication.Record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unreadable[key] {
		return replication.Record{}, replication.ErrDamaged
	}
	return d.Memory.Get(key)
}

func (d *disk) Seen() *seen.Set {
	s := d.Memory.Seen()
	if d.w.mutant.early {
		d.mu.Lock()
		defer d.mu.Unlock()
		s.Union(&d.untimely)
	}
	return s
}

func (d *disk) SeenHash() uint64 { return d.Seen().Hash() }

// network makes a node's calls take time and get lost.
func (w *world) network(from *node) {
	for to := range w.cluster {
		from.peers.set(to, func(ctx context.Context) error { return w.carry(ctx, from.id, to) })
	}
	from.peers.lost = func(ctx context.Context, _, id string) error { return w.carry(ctx, id, from.id) }
}

func (w *world) carry(ctx context.Context, from, to string) error {
	w.mu.Lock()
	delay, lost := time.Duration(w.dice.IntN(100))*time.Millisecond, false
	if w.faulty {
		lost = w.cut[from+to] || w.dice.IntN(20) == 0
	} else {
		delay /= 20
	}
	w.mu.Unlock()
	if err := takes(delay)(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	d := w.disks[to]
	w.mu.Unlock()
	if d.isEnded() || lost {
		return errRefused
	}
	return nil
}

func (d *disk) isEnded() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ended
}

// run runs the program and returns what is wrong in the end, and how many pulls there were.
func run(t *testing.T, p program, with mutant) (replication.SyncStats, error) {
	w := &world{
		mutant: with, dice: rand.New(rand.NewPCG(p.seed, 1)), faulty: true, cut: make(map[string]bool),
		disks: make(map[string]*disk), written: make(map[version.Dot]replication.Record), winners: make(map[string]version.Version),
	}
	var ending []func()               // for every process there was
	running := make(map[*node]func()) // ends what a node runs by itself
	w.cluster = newCluster(t, p.nodes, setup{
		pageRecords: 2,
		store: func(id string, s replication.Store, _ *version.Clock) replication.Store {
			d := &disk{Memory: s.(*storetest.Memory), w: w, unreadable: make(map[string]bool)}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.disks[id] = d
			return d
		},
	})
	var total replication.SyncStats
	start := func(n *node) {
		if w.mutant.node != nil {
			w.mutant.node(w, n)
		}
		s, stop := n.catchUp(t, replication.SyncConfig{})
		running[n] = stop
		ending = append(ending, stop, n.Close, func() {
			total.Complete += s.Stats().Complete
			total.Failed += s.Stats().Failed
			total.Incomplete += s.Stats().Incomplete
		})
	}
	for _, n := range w.cluster {
		w.network(n)
		start(n)
	}
	down := make(map[*node]bool)
	restart := func(n *node) {
		delete(down, n)
		n.start(t)
		start(n)
	}
	var clients sync.WaitGroup
	var unfounded error
	for i, s := range p.steps {
		time.Sleep(s.after)
		unfounded = cmp.Or(unfounded, w.unfounded())
		n, other := w.cluster[p.nodes[s.a:s.a+1]], w.cluster[p.nodes[s.b:s.b+1]]
		switch s.what {
		case write, remove:
			if c := n.Coordinator; !down[n] {
				clients.Go(func() { client(c, i, s) })
			}
		case cut:
			w.mu.Lock()
			w.cut[n.id+other.id] = !w.cut[n.id+other.id]
			w.cut[other.id+n.id] = w.cut[n.id+other.id]
			w.mu.Unlock()
		case crash:
			if down[n] {
				restart(n)
				break
			}
			down[n] = true
			w.disks[n.id].mu.Lock()
			w.disks[n.id].ended = true
			w.disks[n.id].mu.Unlock()
			running[n]()
		case unreadable:
			d := w.disks[n.id]
			d.mu.Lock()
			d.unreadable[s.key] = !d.unreadable[s.key]
			d.mu.Unlock()
		}
	}
	for n := range down {
		restart(n)
	}
	w.mu.Lock()
	w.faulty = false
	disks := maps.Clone(w.disks)
	w.mu.Unlock()
	for _, d := range disks {
		d.mu.Lock()
		clear(d.unreadable)
		d.mu.Unlock()
	}
	clients.Wait()
	// A minute is longer than any pause after a failure.
	for end := time.Now().Add(time.Minute); w.verdict() != nil && time.Now().Before(end); {
		time.Sleep(time.Second)
	}
	for _, end := range ending {
		end()
	}
	return total, cmp.Or(unfounded, w.verdict())
}

// client is one request, whose outcome nobody cares for.
func client(c *replication.Coordinator, i int, s step) {
	if s.what == remove {
		_, _ = c.Delete(context.Background(), s.key, replication.LevelOne)
	} else {
		_, _ = c.Put(context.Background(), s.key, fmt.Append(nil, i), "", replication.LevelOne)
	}
}

// verdict returns what is wrong now that faults have ended and writes have stopped.
func (w *world) verdict() error {
	var errs []error
	first := w.cluster["a"].store
	for _, id := range slices.Sorted(maps.Keys(w.cluster)) {
		s := w.cluster[id].store
		errs = append(errs, w.cluster[id].goneBack.all()...) // no disk went back in time
		if !s.Seen().Equal(first.Seen()) {
			errs = append(errs, fmt.Errorf("node %s has seen %v, node a %v", id, s.Seen(), first.Seen()))
		}
		if s.Digest() != first.Digest() {
			errs = append(errs, fmt.Errorf("invariant I4: digests of nodes %s and a differ", id))
		}
		// The newest write wins everywhere: so nothing durable is lost, and what a tombstone
		// deleted does not come back (I5).
		for key, want := range w.winners {
			if held, _ := s.Lookup(key); held.Version != want {
				errs = append(errs, fmt.Errorf("node %s holds %v of %s, the newest is %v", id, held.Version, key, want))
			}
		}
	}
	return errors.Join(append(errs, w.unfounded())...)
}

// unfounded returns which nodes have seen a dot without having its record or a newer one, which
// must never be, whatever happens just now: whoever pulled from them would take it over.
func (w *world) unfounded() error {
	w.mu.Lock()
	written := maps.Clone(w.written)
	w.mu.Unlock()
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(w.cluster)) {
		store := w.cluster[id].store
		has := store.Seen()
		for dot, r := range written {
			if held, err := store.Lookup(r.Key); has.Has(dot) && held.Version.Compare(r.Version) < 0 {
				errs = append(errs, fmt.Errorf("node %s has seen %v of %s but holds %v, %v", id, r.Version, r.Key, held.Version, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Invariants I4 and I5, as long as no tombstone is collected.
func TestAllNodesEndEqualWhateverHappened(t *testing.T) {
	type result struct {
		stats replication.SyncStats
		err   error
	}
	inBubble := bubble(t, func(t *testing.T, p program) (r result) {
		r.stats, r.err = run(t, p, mutant{})
		return r
	})
	var total replication.SyncStats
	rapid.Check(t, func(rt *rapid.T) {
		p := newProgram(func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") })
		r := inBubble(p)
		if r.err != nil {
			rt.Fatalf("%v\n%v", r.err, p)
		}
		total.Complete += r.stats.Complete
		total.Failed += r.stats.Failed
		total.Incomplete += r.stats.Incomplete
	})
	if total.Complete == 0 || total.Failed == 0 || total.Incomplete == 0 {
		t.Errorf("some kind of pull never happened: %+v", total)
	}
	t.Logf("pulls: %+v", total)
}

// mutants are shortcuts that each look harmless.
var mutants = map[string]mutant{
	"seen set read at the last page": {node: func(w *world, n *node) {
		pulls := make(map[uint64]replication.Pull)
		n.peers.open = func(id string, mine *seen.Set) (replication.Pull, error) {
			pull, err := n.peers.offered(id, mine)
			pulls[pull.ID] = pull
			return pull, err
		}
		n.peers.page = func(id string, pull, from uint64) (replication.Page, error) {
			page, err := n.peers.paged(id, pull, from)
			if err == nil && page.Next == 0 {
				pulls[pull].Seen.Union(w.cluster[id].store.Seen())
			}
			return page, err
		}
	}},
	"seen set read after the keys": {node: func(w *world, n *node) {
		n.peers.open = func(id string, mine *seen.Set) (replication.Pull, error) {
			pull, err := n.peers.offered(id, mine)
			if err == nil {
				time.Sleep(20 * time.Millisecond)
				pull.Seen = w.cluster[id].store.Seen()
			}
			return pull, err
		}
	}},
	"united after the first page": {node: func(_ *world, n *node) {
		pulls := make(map[uint64]replication.Pull)
		n.peers.open = func(id string, mine *seen.Set) (replication.Pull, error) {
			pull, err := n.peers.offered(id, mine)
			pulls[pull.ID] = pull
			return pull, err
		}
		n.peers.page = func(id string, pull, from uint64) (replication.Page, error) {
			if from > 0 {
				_ = n.store.Unite(pulls[pull].Seen)
			}
			return n.peers.paged(id, pull, from)
		}
	}},
	"pull resumed at a cursor with a fresh set": {node: func(_ *world, n *node) {
		cursors := make(map[string]uint64)
		n.peers.page = func(id string, pull, from uint64) (replication.Page, error) {
			if from == 0 {
				from = cursors[id]
			}
			page, err := n.peers.paged(id, pull, from)
			switch {
			case err == nil:
				cursors[id] = page.Next
			case from > 0 && !errors.Is(err, replication.ErrPullGone):
				return replication.Page{}, nil // the cursor is beyond the end: that was all
			}
			return page, err
		}
	}},
	"records newer than the snapshot left out": {node: func(_ *world, n *node) {
		pulls := make(map[uint64]replication.Pull)
		n.peers.open = func(id string, mine *seen.Set) (replication.Pull, error) {
			pull, err := n.peers.offered(id, mine)
			pulls[pull.ID] = pull
			return pull, err
		}
		n.peers.page = func(id string, pull, from uint64) (replication.Page, error) {
			page, err := n.peers.paged(id, pull, from)
			page.Records = slices.DeleteFunc(page.Records, func(r replication.Record) bool {
				return !pulls[pull].Seen.Has(r.Version.Dot)
			})
			return page, err
		}
	}},
	"unreadable record skipped and set united": {node: func(_ *world, n *node) {
		n.peers.page = func(id string, pull, from uint64) (replication.Page, error) {
			page, err := n.peers.paged(id, pull, from)
			page.Incomplete = false
			return page, err
		}
	}},
	"undurable dots told": {early: true},
}

// Each of these falls after some programs, most of them after a few.
func TestShortcutsOfCatchUpAreNoticed(t *testing.T) {
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			const most = 2000
			synctest.Test(t, func(t *testing.T) {
				for seed := range uint64(most) {
					if _, err := run(t, newProgram(rand.New(rand.NewPCG(seed, 0)).IntN), m); err != nil {
						t.Logf("fell after %d programs: %v", seed+1, err)
						return
					}
				}
				t.Errorf("goes unnoticed in %d programs", most)
			})
		})
	}
}
