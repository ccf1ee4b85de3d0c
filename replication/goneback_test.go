package replication_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

// backup is what a node's disk held at some time.
type backup struct {
	store *storetest.Memory
	state map[string][]byte
}

func (n *node) backup(t testing.TB) backup {
	t.Helper()
	b := backup{store: new(storetest.Memory)}
	for key := range n.store.Scan("") {
		r, err := n.store.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		b.store.Apply([]replication.Record{r})
	}
	if err := b.store.Unite(n.store.Seen()); err != nil {
		t.Fatal(err)
	}
	n.state.mu.Lock()
	defer n.state.mu.Unlock()
	b.state = maps.Clone(n.state.pieces)
	return b
}

// restore puts a backup in place of what a node's disk holds, and starts its process.
func (n *node) restore(t testing.TB, b backup) {
	t.Helper()
	n.store = b.store
	n.state.mu.Lock()
	n.state.pieces = maps.Clone(b.state)
	n.state.mu.Unlock()
	n.start(t)
}

// giveUp is what a node does that has gone back: it starts anew with nothing.
func (n *node) giveUp(t testing.TB) {
	t.Helper()
	if err := n.memory.GiveUp(); err != nil {
		t.Fatal(err)
	}
	next, err := n.state.LoadState(replication.NextLifeState)
	if err != nil {
		t.Fatal(err)
	}
	n.restore(t, backup{store: new(storetest.Memory), state: map[string][]byte{replication.NextLifeState: next}})
}

// told returns what all nodes but n take n for.
func (n *node) told() (synced bool) {
	for id, other := range n.peers.cluster {
		if id != n.id {
			m, _ := other.members.View().Member(n.id)
			synced = synced || m.Synced
		}
	}
	return synced
}

// oldCopy has node c start from a copy of its data that is older than a deletion whose tombstone
// is collected since. It returns why c noticed, and whether it and others rely on its data.
func oldCopy(t *testing.T, spoil func(c *node)) (noticed []error, synced bool) {
	cl := newCluster(t, "abc", setup{})
	for _, id := range []string{"a", "b"} {
		cl[id].syncer(t, replication.SyncConfig{})
	}
	c := cl["c"]
	_, stop := c.catchUp(t, replication.SyncConfig{})
	cl["a"].put(t, 3, "k", "v")
	time.Sleep(3 * time.Second)
	old := c.backup(t)
	if _, err := cl["b"].Delete(t.Context(), "k001", replication.LevelAll); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	stop()
	c.Close()
	for _, id := range []string{"a", "b"} {
		held, err := cl[id].store.Lookup("k001")
		if err != nil {
			t.Fatal(err)
		}
		if dropped, err := cl[id].store.Drop("k001", held.Version); !dropped || err != nil {
			t.Fatalf("tombstone of k001 at %s: dropped %v, %v", id, dropped, err)
		}
	}
	c.restore(t, old)
	spoil(c)
	for _, n := range cl {
		n.members.synced("c", false)
	}
	s := c.syncer(t, replication.SyncConfig{})
	time.Sleep(10 * time.Second)
	cl.wantHeld(t, "k001", "v", "c")
	cl.wantHeld(t, "k001", "nothing", "ab")
	return c.goneBack.all(), s.Synced() || c.told()
}

func TestOldCopyOfANodeIsFoundOutAndNeverReliedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noticed, synced := oldCopy(t, func(*node) {})
		if len(noticed) != 1 || !errors.Is(noticed[0], replication.ErrGoneBack) {
			t.Errorf("noticed: got %v, want ErrGoneBack once", noticed)
		}
		if synced {
			t.Error("the old copy is taken for synced")
		}
	})
}

// Each of these brings the deleted key back.
func TestShortcutsThatTrustAnOldCopyAreNoticed(t *testing.T) {
	for name, spoil := range map[string]func(c *node){
		"recall not compared": func(c *node) { c.peers.recalled = func(*seen.Set) *seen.Set { return new(seen.Set) } },
		"recall compared after a pull": func(c *node) {
			c.peers.recalled = func(s *seen.Set) *seen.Set {
				_ = c.store.Unite(c.peers.cluster["a"].store.Seen()) // it does not fail
				return s
			}
		},
		"what was told void without giving up": func(c *node) {
			c.Close()
			if err := c.state.SaveState("life", []byte("7")); err != nil {
				t.Fatal(err)
			}
			c.start(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if noticed, synced := oldCopy(t, spoil); len(noticed) > 0 || !synced {
					t.Errorf("noticed %v, synced %v: this shortcut is harmless", noticed, synced)
				}
			})
		})
	}
}

func TestNodeThatGaveItsDataUpCatchesUpAndIsNotSuspectedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		for _, id := range []string{"a", "b"} {
			cl[id].peers.lost = func(_ context.Context, what, id string) error {
				if what == "open" && id == "c" {
					return errRefused
				}
				return nil
			}
			cl[id].syncer(t, replication.SyncConfig{})
		}
		a, c := cl["a"], cl["c"]
		_, stop := c.catchUp(t, replication.SyncConfig{})
		// What only c ever had, and told of, is lost for good.
		lost := seen.Of(version.Dot{Origin: 77, Counter: 5})
		a.put(t, 3, "k", "v")
		if err := c.store.Unite(lost); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if a.memory.Told("c").Missing(c.store.Seen()) > 0 || lost.Missing(a.memory.Told("c")) > 0 {
			t.Fatalf("c told a %v and has seen %v", a.memory.Told("c"), c.store.Seen())
		}
		stop()
		c.Close()
		for _, n := range cl {
			n.members.synced("c", false)
		}
		c.giveUp(t)
		a.put(t, 1, "pushed", "v") // before it has exchanged anything with anybody
		s, stop := c.catchUp(t, replication.SyncConfig{})
		time.Sleep(3 * time.Second)
		if got := c.goneBack.all(); len(got) > 0 || !s.Synced() {
			t.Fatalf("started with nothing: suspected %v, synced %v", got, s.Synced())
		}
		if c.count("open a") == 0 || c.count("open b") == 0 {
			t.Error("synced without a pull from each member")
		}
		stop()
		c.Close()
		c.start(t)
		opened := c.count("open a") + c.count("open b")
		s = c.syncer(t, replication.SyncConfig{})
		time.Sleep(time.Second)
		if got := c.goneBack.all(); len(got) > 0 || !s.Synced() {
			t.Errorf("started again: suspected %v, synced %v", got, s.Synced())
		}
		if got := c.count("open a") + c.count("open b"); got > opened {
			t.Errorf("%d pulls after the second start, want none: it was synced before", got-opened)
		}
		cl.wantHeld(t, "k001", "v", "c")
	})
}

// A copy from before the first write has nothing that could be wrong, but counts for what it lost.
func TestOldCopyWithoutAnyWritesIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		cl["a"].syncer(t, replication.SyncConfig{})
		b := cl["b"]
		old := b.backup(t)
		_, stop := b.catchUp(t, replication.SyncConfig{})
		b.put(t, 1, "k", "v")
		time.Sleep(3 * time.Second)
		stop()
		b.Close()
		b.restore(t, old)
		s := b.syncer(t, replication.SyncConfig{})
		time.Sleep(3 * time.Second)
		if got := b.goneBack.all(); len(got) != 1 || s.Synced() {
			t.Errorf("suspected %v, synced %v, want ErrGoneBack and not synced", got, s.Synced())
		}
	})
}

// A virtual machine that is resumed from a snapshot does not know that it went on before.
func TestProcessThatIsBehindItsOwnWritesHasGoneBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		a, b := cl["a"], cl["b"]
		s := a.syncer(t, replication.SyncConfig{})
		a.put(t, 5, "k", "v")
		time.Sleep(5 * time.Second)
		if !s.Synced() {
			t.Fatal("not synced")
		}
		own := record("k000", "w", at(3))
		own.Version.Dot = version.Dot{Origin: a.origin, Counter: 6}
		cl.put(t, "b", own)
		before := a.store.Seen()
		time.Sleep(2 * time.Second)
		if got := a.goneBack.all(); len(got) != 1 || !errors.Is(got[0], replication.ErrGoneBack) || !strings.Contains(got[0].Error(), "write 6") {
			t.Errorf("suspected %v, want ErrGoneBack once", got)
		}
		if m, _ := b.members.View().Member("a"); s.Synced() || m.Synced {
			t.Error("it is synced")
		}
		time.Sleep(10 * time.Second)
		wantSet(t, "seen", a.store.Seen(), before)
	})
}

// The exchange is one way to find out. A pull must not take over what proves it either.
func TestPullDoesNotUniteWritesOfThisProcessThatItDidNotMake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		a := cl["a"]
		a.peers.open = func(id string, mine *seen.Set) (replication.Pull, error) {
			return replication.Pull{Seen: seen.Of(version.Dot{Origin: a.origin, Counter: 1})}, nil
		}
		s := a.syncer(t, replication.SyncConfig{})
		time.Sleep(5 * time.Second)
		s.Heard("b", seen.Of(at(1).Dot))
		time.Sleep(2 * time.Second)
		if got := s.Stats(); got.Complete > 0 || got.Failed == 0 {
			t.Errorf("got %+v, want pulls that failed", got)
		}
		wantSet(t, "seen", a.store.Seen(), new(seen.Set))
	})
}

func TestNodeReliesOnItsDataOnceEveryLiveMemberWasCompared(t *testing.T) {
	const ms = time.Millisecond
	for name, row := range map[string]struct {
		ids      string
		b, c     link
		min, max time.Duration // from the start until it is synced
	}{
		"alone":                  {"a", nil, nil, 0, ms},
		"both answer":            {"abc", nil, nil, 0, 110 * ms},
		"both answer late":       {"abc", takes(50 * ms), takes(700 * ms), 700 * ms, 900 * ms},
		"one is down":            {"abc", nil, refuses, 0, 110 * ms},
		"one is frozen":          {"abc", nil, freezes, 900 * ms, 1200 * ms},
		"both are down":          {"abc", refuses, refuses, time.Minute, time.Minute + 20*ms},
		"one down, one frozen":   {"abc", refuses, freezes, time.Minute, time.Minute + 20*ms},
		"one only after a while": {"abc", refuses, takesFrom(1500 * ms), 1500 * ms, 2600 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, row.ids, setup{})
				a := cl["a"]
				for _, n := range cl {
					n.members.synced("a", false)
				}
				a.peers.set("b", row.b)
				a.peers.set("c", row.c)
				started := time.Now()
				s := a.syncer(t, replication.SyncConfig{})
				synctest.Wait()
				for !s.Synced() && time.Since(started) < time.Minute {
					time.Sleep(10 * ms)
					synctest.Wait()
				}
				if got := time.Since(started); got < row.min || got > row.max {
					t.Errorf("synced after %v, want %v to %v", got, row.min, row.max)
				}
				if got := a.count("open b") + a.count("open c"); got > 0 {
					t.Errorf("%d pulls, want none: it was synced before", got)
				}
			})
		})
	}
}

// takesFrom refuses for some time and answers then.
func takesFrom(d time.Duration) link {
	begins := time.Now().Add(d)
	var once bool
	return func(ctx context.Context) error {
		if !once { // the bubble's clock is another one
			begins, once = time.Now().Add(d), true
		}
		if time.Now().Before(begins) {
			return refuses(ctx)
		}
		return takes(soon)(ctx)
	}
}
