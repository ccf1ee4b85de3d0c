package replication_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

// pulls is what a node remembers to have pulled. What was saved survives a crash.
type pulls struct {
	mu      sync.Mutex // guards the fields below
	told    map[string]*seen.Set
	now     map[string]*seen.Set
	durable map[string]*seen.Set
	saves   atomic.Int64
	fails   error
	// collected is all that Collect was given, forgets its error.
	collected seen.Set
	forgets   error
}

func newPulls() *pulls {
	return &pulls{told: make(map[string]*seen.Set), now: make(map[string]*seen.Set), durable: make(map[string]*seen.Set)}
}

func (p *pulls) pull(id string, set *seen.Set) {
	p.tell(id, set)
	p.add(p.now, id, set)
}

func (p *pulls) tell(id string, set *seen.Set) { p.add(p.told, id, set) }

func (p *pulls) add(where map[string]*seen.Set, id string, set *seen.Set) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if where[id] == nil {
		where[id] = new(seen.Set)
	}
	where[id].Union(set)
}

func (p *pulls) Pulled(id string) *seen.Set { return p.of(p.durable, id) }

func (p *pulls) of(where map[string]*seen.Set, id string) *seen.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	if set := where[id]; set != nil {
		return set.Clone()
	}
	return new(seen.Set)
}

func (p *pulls) Save() error {
	p.saves.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails != nil {
		return p.fails
	}
	for id, set := range p.now {
		p.durable[id] = set.Clone()
	}
	return nil
}

func (p *pulls) Collect(set *seen.Set) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forgets == nil {
		p.collected.Union(set)
	}
	return p.forgets
}

func (p *pulls) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = err
}

// grave is the tombstone of most tests, over a value that was written before it.
var (
	grave = tombstone("k", at(-10))
	older = record("k", "v", at(-20))
)

// collecting is node a of a cluster with a collector.
type collecting struct {
	cluster
	a     *node
	pulls *pulls
	log   logged
	*replication.Collector
}

// collect starts a collector on node a of a cluster, which ends with the test.
func collect(t *testing.T, cl cluster, change func(cfg *replication.CollectorConfig)) *collecting {
	t.Helper()
	c := &collecting{cluster: cl, a: cl["a"], pulls: newPulls()}
	cfg := replication.CollectorConfig{
		Replica: c.a.Replica(), Members: c.a.members, Memory: c.pulls, Synced: func() bool { return true },
		Logger: hclog.New(&hclog.LoggerOptions{Output: &c.log}),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if c.Collector, err = replication.NewCollector(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	time.Sleep(time.Second) // so that tests do nothing at the instant of a look
	return c
}

// logged is what went to a log.
type logged struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// pull lets node a have all that node id has, as a pull that is complete does.
func (c *collecting) pull(id string) {
	from := c.cluster[id].store
	pull(c.a.store, from)
	c.pulls.pull(id, from.Seen())
}

// pull gives to what from has and it lacks, and what from has seen.
func pull(to, from *storetest.Memory) {
	keys, _ := from.Lacking(to.Seen())
	for _, key := range keys {
		r, err := from.Get(key)
		if err != nil {
			panic(err)
		}
		to.Apply([]replication.Record{r})
	}
	if err := to.Unite(from.Seen()); err != nil {
		panic(err)
	}
}

// wantStats checks the numbers in the form "tombstones/collected a:blocked b:blocked".
func (c *collecting) wantStats(t *testing.T, want string) {
	t.Helper()
	stats := c.Stats()
	got := fmt.Sprintf("%d/%d", stats.Tombstones, stats.Collected)
	for id := range strings.SplitSeq("abcdef", "") {
		if n, blocked := stats.Blocked[id]; blocked {
			got += fmt.Sprintf(" %s:%d", id, n)
		}
	}
	if got != want {
		t.Errorf("stats: got %s, want %s", got, want)
	}
}

func TestTombstoneGoesOnceItWasPulledFromAllForTheLeastAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t, newCluster(t, "abc", setup{}), nil)
		for id := range c.cluster {
			c.put(t, id, older)
			c.put(t, id, grave)
		}
		c.put(t, "a", record("live", "v", at(-9)))
		time.Sleep(time.Hour)
		c.wantHeld(t, "k", "gone", "a")
		c.wantStats(t, "1/0 b:1 c:1")
		c.pull("b")
		time.Sleep(time.Hour)
		c.wantHeld(t, "k", "gone", "a")
		c.wantStats(t, "1/0 c:1")

		c.pull("c")
		time.Sleep(10 * time.Minute)
		c.wantHeld(t, "k", "gone", "a")
		c.wantStats(t, "1/0")
		time.Sleep(time.Minute)
		c.wantHeld(t, "k", "nothing", "a")
		c.wantHeld(t, "live", "v", "a")
		c.wantHeld(t, "k", "gone", "bc") // each for itself
		c.wantStats(t, "0/1")
		if !c.a.store.Seen().Has(grave.Version.Dot) {
			t.Error("what was collected is not seen any more")
		}
		// A node that still has it may give it back, as a read repair does.
		c.put(t, "a", grave)
		time.Sleep(13 * time.Minute)
		c.wantHeld(t, "k", "nothing", "a")
		c.wantStats(t, "0/2")
	})
}

func TestOnlyTheTombstoneThatWasPulledFromAllGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t, newCluster(t, "ab", setup{}), nil)
		for _, key := range []string{"k", "again", "twice"} {
			v := at(-10)
			v.Counter += uint64(len(key))
			c.put(t, "b", tombstone(key, v))
		}
		c.pull("b")
		time.Sleep(2 * time.Minute) // a round has begun
		c.put(t, "a", record("again", "v", at(-5)))
		c.put(t, "a", tombstone("twice", at(-4)))
		c.put(t, "a", tombstone("late", at(-3)))
		time.Sleep(10 * time.Minute)
		c.wantHeld(t, "k", "nothing", "a")
		c.wantHeld(t, "again", "v", "a")
		c.wantHeld(t, "twice", "gone", "a")
		c.wantHeld(t, "late", "gone", "a")
		c.wantStats(t, "2/1 b:2")
		pull(c.cluster["b"].store, c.a.store)
		c.pull("b")
		time.Sleep(9 * time.Minute) // the next round began without them
		c.wantHeld(t, "twice", "gone", "a")
		time.Sleep(12 * time.Minute)
		c.wantHeld(t, "twice", "nothing", "a")
		c.wantStats(t, "0/3")
	})
}

func TestEachTombstoneHasItsOwnLeastAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t, newCluster(t, "ab", setup{}), nil)
		c.put(t, "b", grave)
		c.pull("b")
		time.Sleep(5 * time.Minute) // a round is under way
		c.put(t, "b", tombstone("late", at(-3)))
		c.pull("b")
		if err := c.pulls.Save(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Minute)
		c.wantHeld(t, "k", "nothing", "a")
		c.wantHeld(t, "late", "gone", "a")
		time.Sleep(8 * time.Minute)
		c.wantHeld(t, "late", "nothing", "a")
	})
}

func TestNodeThatComesDuringARoundIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t, newCluster(t, "abd", setup{}), nil)
		c.a.members.rosters("ab")
		all := c.a.members.View().Members
		c.a.members.change(func(v *replication.View) { v.Members = all[:2] })
		c.put(t, "b", grave)
		c.pull("b")
		time.Sleep(5 * time.Minute)
		c.a.members.change(func(v *replication.View) { v.Members = all }) // d is a learner
		time.Sleep(time.Hour)
		c.wantHeld(t, "k", "gone", "a")
		c.wantStats(t, "1/0 d:1")
		c.a.members.change(func(v *replication.View) { v.Members = all[:2] }) // it was forgotten
		time.Sleep(12 * time.Minute)
		c.wantHeld(t, "k", "nothing", "a")
	})
}

func TestNodeThatIsNotSyncedCollectsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var synced atomic.Bool
		c := collect(t, newCluster(t, "ab", setup{}), func(cfg *replication.CollectorConfig) { cfg.Synced = synced.Load })
		c.put(t, "b", grave)
		c.pull("b")
		time.Sleep(time.Hour)
		c.wantHeld(t, "k", "gone", "a")
		synced.Store(true)
		time.Sleep(8 * time.Minute)
		synced.Store(false) // for one look: what it knew before counts no more
		time.Sleep(time.Minute)
		synced.Store(true)
		time.Sleep(10 * time.Minute)
		c.wantHeld(t, "k", "gone", "a")
		time.Sleep(2 * time.Minute)
		c.wantHeld(t, "k", "nothing", "a")
	})
}

// While a process is frozen, what others send it waits, however long that is.
func TestTimeInWhichTheProcessWasFrozenDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var frozen atomic.Int64
		c := collect(t, newCluster(t, "ab", setup{}), func(cfg *replication.CollectorConfig) {
			cfg.Synced = func() bool {
				time.Sleep(time.Duration(frozen.Swap(0)))
				return true
			}
		})
		c.put(t, "b", grave)
		c.pull("b")
		time.Sleep(3 * time.Minute) // one to begin, two have passed
		for range 5 {
			frozen.Store(int64(time.Hour))
			time.Sleep(61 * time.Minute)
		}
		// Five looks were late, and so was the one after each of them.
		time.Sleep(2 * time.Minute)
		c.wantHeld(t, "k", "gone", "a")
		c.put(t, "a", older) // it waited in a socket
		c.wantHeld(t, "k", "gone", "a")
		time.Sleep(10 * time.Minute)
		c.wantHeld(t, "k", "nothing", "a")
	})
}

func TestTombstoneFromAheadOfTheClockStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t, newCluster(t, "ab", setup{}), nil)
		c.put(t, "b", tombstone("future", at(3600)))
		c.pull("b")
		time.Sleep(50 * time.Minute)
		c.wantHeld(t, "future", "gone", "a")
		c.wantStats(t, "1/0 a:1")
		time.Sleep(22 * time.Minute)
		c.wantHeld(t, "future", "nothing", "a")
		c.wantStats(t, "0/1")
	})
}

func TestNothingIsCollectedOnAnUndurableMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t, newCluster(t, "ab", setup{}), nil)
		c.pulls.fail(errors.New("no room"))
		c.put(t, "b", grave)
		c.pull("b")
		time.Sleep(time.Hour)
		c.wantHeld(t, "k", "gone", "a")
		if !strings.Contains(c.log.String(), "no room") {
			t.Errorf("the log does not say why: %s", &c.log)
		}
		c.pulls.fail(nil)
		time.Sleep(12 * time.Minute)
		c.wantHeld(t, "k", "nothing", "a")
	})
}

// Whoever finds no record must be able to know that there was a tombstone.
func TestWhatIsCollectedIsRememberedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t, newCluster(t, "ab", setup{}), nil)
		c.pulls.forgets = errors.New("no room")
		c.put(t, "b", grave)
		live := record("live", "v", at(-9)) // of the same origin, and later
		c.put(t, "b", live)
		c.pull("b")
		time.Sleep(time.Hour)
		c.wantHeld(t, "k", "gone", "a")
		if !strings.Contains(c.log.String(), "no room") {
			t.Errorf("the log does not say why: %s", &c.log)
		}
		c.pulls.mu.Lock()
		c.pulls.forgets = nil
		c.pulls.mu.Unlock()
		time.Sleep(22 * time.Minute)
		c.wantHeld(t, "k", "nothing", "a")
		c.pulls.mu.Lock()
		defer c.pulls.mu.Unlock()
		if got := &c.pulls.collected; !got.Has(grave.Version.Dot) || got.Has(live.Version.Dot) {
			t.Errorf("collected: got %v, want %v and not what came after it, %v", got, grave.Version.Dot, live.Version.Dot)
		}
	})
}

func TestFailingDiskEndsARoundAndTheNextGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t, newCluster(t, "ab", setup{}), nil)
		c.put(t, "b", grave)
		c.pull("b")
		c.a.store.FailWrites(replication.ErrDiskFull)
		time.Sleep(time.Hour)
		c.wantStats(t, "1/0")
		if !strings.Contains(c.log.String(), replication.ErrDiskFull.Error()) {
			t.Errorf("the log does not say why: %s", &c.log)
		}
		c.a.store.FailWrites(nil)
		time.Sleep(12 * time.Minute)
		c.wantStats(t, "0/1")
	})
}

// counting counts the looks at all tombstones.
type counting struct {
	replication.Store
	looks *atomic.Int64
}

func (s counting) Tombstones() iter.Seq2[string, version.Version] {
	s.looks.Add(1)
	return s.Store.Tombstones()
}

func TestCollectorAtRestLooksAtNothingAndSavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		cl := newCluster(t, "ab", setup{store: func(_ string, s replication.Store, _ *version.Clock) replication.Store {
			return counting{s, &looks}
		}})
		c := collect(t, cl, nil)
		c.put(t, "a", record("live", "v", at(-9)))
		time.Sleep(24 * time.Hour)
		if got := looks.Load(); got != 0 || c.pulls.saves.Load() != 0 {
			t.Errorf("without tombstones: %d looks and %d saves, want none", got, c.pulls.saves.Load())
		}
		for i := range 5 {
			c.put(t, "a", tombstone(fmt.Sprint("k", i), at(-9+i)))
		}
		time.Sleep(24 * time.Hour)
		for range 100 {
			c.wantStats(t, "5/0 b:5")
		}
		if got := looks.Load(); got != 1 {
			t.Errorf("with tombstones that all wait for b: %d looks, want 1", got)
		}
		pull(cl["b"].store, c.a.store)
		c.pull("b")
		time.Sleep(12 * time.Minute)
		c.wantStats(t, "0/5")
	})
}

func TestStatsAreUpToDateWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		c := collect(t, newCluster(t, "abc", setup{store: func(_ string, s replication.Store, _ *version.Clock) replication.Store {
			return counting{s, &looks}
		}}), nil)
		c.wantStats(t, "0/0")
		c.put(t, "a", grave)
		c.wantStats(t, "1/0 b:1 c:1")
		c.put(t, "a", tombstone("other", at(-1)))
		time.Sleep(5 * time.Second)
		c.wantStats(t, "2/0 b:2 c:2")
		pull(c.cluster["b"].store, c.a.store)
		c.pull("b")
		if err := c.pulls.Save(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		c.wantStats(t, "2/0 c:2")
		c.Stats().Blocked["c"] = 7
		c.wantStats(t, "2/0 c:2")
		// The same number of others.
		c.put(t, "a", record("other", "v", at(1)))
		c.put(t, "a", tombstone("another", at(2)))
		before := looks.Load()
		for range 100 {
			c.wantStats(t, "2/0 c:2")
		}
		if got := looks.Load() - before; got != 0 {
			t.Errorf("%d looks at once, want none", got)
		}
		time.Sleep(5 * time.Second)
		c.wantStats(t, "2/0 b:1 c:2")
	})
}

func TestLogTellsOnceAnHourWhoBlocksHowMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t, newCluster(t, "abc", setup{}), nil)
		c.put(t, "a", grave)
		c.put(t, "b", grave)
		c.pull("b")
		time.Sleep(50 * time.Minute)
		told := func() int { return strings.Count(c.log.String(), "tombstones wait for a node: node=c number=1") }
		if got := told(); got != 0 {
			t.Errorf("told %d times before an hour has passed, want 0", got)
		}
		time.Sleep(10 * time.Hour)
		if got := told(); got < 9 || got > 10 {
			t.Errorf("told %d times in ten hours, want once an hour", got)
		}
		if strings.Contains(c.log.String(), "node=b") {
			t.Error("the log names one that blocks nothing")
		}
		c.pull("c")
		pull(c.cluster["c"].store, c.a.store)
		c.pull("c")
		time.Sleep(15 * time.Minute)
		if log := c.log.String(); strings.Count(log, "tombstones were collected: number=1 left=0") != 1 {
			t.Errorf("the log does not tell once what was collected: %s", log)
		}
	})
}

func TestCollectorConfigReportsAllProblemsAtOnce(t *testing.T) {
	_, err := replication.NewCollector(replication.CollectorConfig{MinAge: 9})
	for _, want := range []string{"Replica", "Members", "Memory", "Synced", "MinAge 9ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

// All parts together, each node with its own.
func TestTombstonesGoEverywhereOnceTheAwayMemberIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		collectors := make(map[string]*replication.Collector)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer func() { cancel(); running.Wait() }()
		for id, n := range cl {
			s := n.syncer(t, replication.SyncConfig{})
			c, err := replication.NewCollector(replication.CollectorConfig{
				Replica: n.Replica(), Members: n.members, Memory: n.memory, Synced: s.Synced, MinAge: time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
			collectors[id] = c
			running.Go(func() { c.Run(ctx) })
			running.Go(func() { n.memory.Run(ctx) })
		}
		remove := func(keys int) {
			for i := range keys {
				if _, err := cl["a"].Delete(t.Context(), fmt.Sprintf("k%03d", i), replication.LevelDefault); err != nil {
					t.Fatal(err)
				}
			}
		}
		wantLeft := func(when string, want int) {
			t.Helper()
			for id := range cl {
				if got := cl[id].store.TombstoneCount(); got != want {
					t.Errorf("%s: node %s has %d tombstones, want %d", when, id, got, want)
				}
			}
			cl.wantEqual(t, "abc")
		}
		cl["a"].put(t, 50, "k", "v")
		time.Sleep(5 * time.Second)
		remove(20)
		time.Sleep(90 * time.Second)
		wantLeft("all are there", 0)

		cl.spoil("c", refuses)
		for _, id := range []string{"a", "b"} {
			cl["c"].peers.set(id, refuses)
		}
		time.Sleep(10 * time.Second)
		remove(40)
		time.Sleep(3 * time.Minute)
		for _, id := range []string{"a", "b"} {
			if got := collectors[id].Stats(); got.Tombstones != 40 || got.Blocked["c"] != 40 || len(got.Blocked) != 1 {
				t.Errorf("node %s while c is away: %+v, want 40 that wait for c alone", id, got)
			}
		}
		for id := range cl {
			cl.spoil(id, nil)
		}
		time.Sleep(90 * time.Second)
		wantLeft("c is back", 0)
		cl.wantHeld(t, "k000", "nothing", "abc")
		cl.wantHeld(t, "k045", "v", "abc")
	})
}
