package replication_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// concurrent is the scenario of many writes to few keys through all coordinators of a cluster
// whose clocks differ, where each delivery takes its own time. draw returns a number from 0 to
// below n. The result says what is wrong: nodes that end up with different records, or with
// another than the newest one acknowledged.
func concurrent(t *testing.T, draw func(n int) int, with setup) error {
	with.skew = make(map[string]time.Duration)
	for _, id := range []string{"a", "b", "c"} {
		with.skew[id] = time.Duration(draw(2000)-1000) * time.Millisecond
	}
	cl := newCluster(t, "abc", with)
	defer cl.close()

	var delays sync.Mutex // draw is not safe for concurrent use
	for _, n := range cl {
		for id := range cl {
			n.peers.set(id, func(ctx context.Context) error {
				delays.Lock()
				d := time.Duration(draw(900)) * time.Millisecond
				delays.Unlock()
				return takes(d)(ctx)
			})
		}
	}
	newest := make(map[string]version.Version)
	var failures []error
	var mu sync.Mutex // guards newest and failures
	var writers sync.WaitGroup
	for i := range 2 + draw(12) {
		delays.Lock()
		id, key := string(rune('a'+draw(3))), string(rune('k'+draw(2)))
		deletes, starts := draw(4) == 0, time.Duration(draw(1500))*time.Millisecond
		delays.Unlock()
		writers.Go(func() {
			time.Sleep(starts)
			var receipt replication.Receipt
			var err error
			if deletes {
				receipt, err = cl[id].Delete(t.Context(), key, replication.LevelAll)
			} else {
				receipt, err = cl[id].Put(t.Context(), key, fmt.Append(nil, i), "", replication.LevelAll)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, fmt.Errorf("write %d: %w", i, err))
			}
			if receipt.Version.Compare(newest[key]) > 0 {
				newest[key] = receipt.Version
			}
		})
	}
	writers.Wait()
	cl.close() // all stragglers have arrived
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	for key, want := range newest {
		first := cl["a"].holds(key)
		for id, n := range cl {
			held, err := n.store.Lookup(key)
			if err != nil || n.holds(key) != first {
				return fmt.Errorf("%s: node %s holds %s at %v, node a %s", key, id, n.holds(key), held.Version, first)
			}
			if held.Version.Compare(want) < 0 {
				return fmt.Errorf("%s: node %s has %v, older than %v which was acknowledged", key, id, held.Version, want)
			}
		}
	}
	return nil
}

// Invariant I2, and last update wins on every node alike.
func TestArrivalOrderIsInvisible(t *testing.T) {
	inBubble := bubble(t, func(t *testing.T, draw func(n int) int) error { return concurrent(t, draw, setup{}) })
	rapid.Check(t, func(rt *rapid.T) {
		if err := inBubble(func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") }); err != nil {
			rt.Fatal(err)
		}
	})
}

// ownTime is a replica that breaks the rule that versions are made by coordinators alone.
type ownTime struct {
	replication.Store
	clock *version.Clock
}

func (s ownTime) Apply(records []replication.Record) []replication.Outcome {
	records = slices.Clone(records)
	for i := range records {
		records[i].Version.Timestamp = s.clock.Next()
	}
	return s.Store.Apply(records)
}

func TestReplicaThatStampsItsOwnTimeIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mutant := setup{store: func(id string, s replication.Store, c *version.Clock) replication.Store { return ownTime{s, c} }}
		for seed := range uint64(100) {
			if concurrent(t, rand.New(rand.NewPCG(seed, 0)).IntN, mutant) != nil {
				return
			}
		}
		t.Error("replicas that stamp their own time go unnoticed")
	})
}
