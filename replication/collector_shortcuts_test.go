package replication_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/storetest"
)

// shortcut is a change to the rules by which tombstones are collected, and a story in which it
// brings a deleted key back.
type shortcut struct {
	change func(cfg *replication.CollectorConfig, p *pulls)
	// story happens to node a, which collects, in a cluster of a and b; d is one more node. It
	// returns the store that may have the value of k back in the end.
	story func(t *testing.T, c *collecting) *storetest.Memory
}

// memoryWith is a memory that tells other sets.
type memoryWith struct {
	*pulls
	pulled func(id string) *seen.Set
	save   func() error
}

func (m memoryWith) Pulled(id string) *seen.Set { return m.pulled(id) }
func (m memoryWith) Save() error                { return m.save() }

// fewerMembers are members of which some are left out.
type fewerMembers struct {
	replication.Members
	fewer func(v *replication.View)
}

func (m fewerMembers) View() *replication.View {
	view := *m.Members.View()
	view.Members = slices.Clone(view.Members)
	m.fewer(&view)
	return &view
}

// inForce leaves out all who are not in the roster in force.
func inForce(v *replication.View) {
	v.Members = slices.DeleteFunc(v.Members, func(m replication.Member) bool {
		return !slices.Contains(v.Rosters[0], m.ID)
	})
}

// newcomer is the story of a node that got the value from b and then turns to a, which knows it
// as rosters say and has everything of b.
func newcomer(rosters ...string) func(*testing.T, *collecting) *storetest.Memory {
	return func(t *testing.T, c *collecting) *storetest.Memory {
		c.a.members.rosters(rosters...)
		c.put(t, "b", older)
		c.put(t, "d", older)
		c.put(t, "b", grave)
		c.pull("b")
		time.Sleep(time.Hour)
		d := c.cluster["d"].store
		pull(d, c.a.store)
		return d
	}
}

var shortcuts = map[string]shortcut{
	// Node b has seen the deletion and says so, but a has not pulled from it yet, so that a does
	// not know to whom else b gave the value before.
	"once all have it": {
		change: func(cfg *replication.CollectorConfig, p *pulls) {
			cfg.Memory = memoryWith{p, func(id string) *seen.Set { return p.of(p.told, id) }, p.Save}
		},
		story: func(t *testing.T, c *collecting) *storetest.Memory {
			all := c.a.members.View().Members
			c.a.members.change(func(v *replication.View) { v.Members, v.Rosters = all[:2], [][]string{{"a", "b"}} })
			c.put(t, "b", older)
			c.put(t, "d", older)
			for _, id := range []string{"a", "b"} {
				c.put(t, id, grave)
			}
			c.pulls.tell("b", c.cluster["b"].store.Seen())
			time.Sleep(time.Hour)
			c.a.members.change(func(v *replication.View) { v.Members = all }) // the pull tells a of d
			c.pull("b")
			time.Sleep(time.Hour)
			d := c.cluster["d"].store
			pull(d, c.a.store)
			return d
		},
	},
	"learners do not count": {
		change: func(cfg *replication.CollectorConfig, _ *pulls) {
			cfg.Members = fewerMembers{cfg.Members, inForce}
		},
		story: newcomer("ab"),
	},
	"the roster to come does not count": {
		change: func(cfg *replication.CollectorConfig, _ *pulls) {
			cfg.Members = fewerMembers{cfg.Members, func(v *replication.View) {
				v.Rosters = v.Rosters[:1]
				inForce(v)
			}}
		},
		story: newcomer("ab", "abd"),
	},
	// What a remembers of b is also what finds out that b went back in time.
	"memory need not be durable": {
		change: func(cfg *replication.CollectorConfig, p *pulls) {
			cfg.Memory = memoryWith{p, func(id string) *seen.Set { return p.of(p.now, id) }, func() error { return nil }}
		},
		story: func(t *testing.T, c *collecting) *storetest.Memory {
			c.a.members.change(func(v *replication.View) { v.Members, v.Rosters = v.Members[:2], [][]string{{"a", "b"}} })
			copied := new(storetest.Memory)
			for _, s := range []*storetest.Memory{copied, c.cluster["b"].store} {
				s.Apply([]replication.Record{older})
			}
			c.put(t, "b", grave)
			c.pull("b")
			c.pulls.fail(errors.New("no room"))
			time.Sleep(time.Hour)
			// Now a crashes, and b starts from the copy.
			if c.pulls.of(c.pulls.durable, "b").Missing(copied.Seen()) > 0 {
				copied = new(storetest.Memory) // a tells b that it went back
			}
			pull(copied, c.a.store)
			return copied
		},
	},
	"collected at once": {
		change: func(cfg *replication.CollectorConfig, _ *pulls) { cfg.MinAge = time.Second },
		story: func(t *testing.T, c *collecting) *storetest.Memory {
			c.a.members.change(func(v *replication.View) { v.Members, v.Rosters = v.Members[:2], [][]string{{"a", "b"}} })
			c.put(t, "b", older)
			c.put(t, "b", grave)
			c.pull("b")
			time.Sleep(time.Minute)
			c.put(t, "a", older) // a request that was slow
			return c.a.store
		},
	},
}

// Invariant I5.
func TestShortcutsOfCollectionBringDeletedKeysBack(t *testing.T) {
	for name, s := range shortcuts {
		t.Run(name, func(t *testing.T) {
			back := func(t *testing.T, taken bool) (is bool) {
				synctest.Test(t, func(t *testing.T) {
					c := collect(t, newCluster(t, "abd", setup{}), func(cfg *replication.CollectorConfig) {
						if taken {
							s.change(cfg, cfg.Memory.(*pulls))
						}
					})
					record, err := s.story(t, c).Get("k")
					is = err == nil && !record.Deleted
				})
				return is
			}
			if back(t, false) {
				t.Error("the key is back without the shortcut")
			}
			if !back(t, true) {
				t.Error("the story does not notice the shortcut")
			}
		})
	}
}

// A puller that has not seen a tombstone when it opens the pull, and sees it before its page is
// made, finds it gone. What it got by then it need not get again.
func TestPullFromWhichATombstoneWasCollectedIsCompleteTheSecondTime(t *testing.T) {
	store := new(storetest.Memory)
	for i, key := range []string{"a", "b", "c"} {
		store.Apply([]replication.Record{record(key, "v", at(i+1))})
	}
	store.Apply([]replication.Record{tombstone("b", at(5))})
	o := offersOf(t, store, replication.OffersConfig{PageRecords: 1})
	theirs := new(storetest.Memory)
	take := func(meanwhile func()) (offered int, incomplete bool) {
		pull := open(t, o, "b", theirs.Seen())
		meanwhile()
		for from := uint64(0); ; {
			page, err := o.NextPage(pull.ID, from)
			if err != nil {
				t.Fatal(err)
			}
			theirs.Apply(page.Records)
			incomplete = incomplete || page.Incomplete
			if from = page.Next; from == 0 {
				return int(pull.Keys), incomplete
			}
		}
	}
	pushedAndCollected := func() {
		theirs.Apply([]replication.Record{tombstone("b", at(5))})
		if gone, err := store.Drop("b", at(5)); !gone || err != nil {
			t.Fatal(gone, err)
		}
	}
	if offered, incomplete := take(pushedAndCollected); offered != 3 || !incomplete {
		t.Errorf("first pull: %d offered, incomplete %v, want 3 of which one is gone", offered, incomplete)
	}
	if offered, incomplete := take(func() {}); offered != 0 || incomplete {
		t.Errorf("second pull: %d offered, incomplete %v, want nothing left", offered, incomplete)
	}
}
