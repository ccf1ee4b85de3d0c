package replication_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
)

// mending is a node with a mender, and what it logged.
type mending struct {
	*node
	log logged
	*replication.Mender
	seenBefore *seen.Set
}

// mender starts a mender on a node, which ends with the test. peers is how it asks others, nil
// for as the node does.
func (n *node) mender(t *testing.T, peers replication.Peers) *mending {
	t.Helper()
	m := &mending{node: n, seenBefore: n.store.Seen()}
	if peers == nil {
		peers = n.peers
	}
	var err error
	m.Mender, err = replication.NewMender(replication.MenderConfig{
		Replica: n.Replica(), Members: n.members, Peers: peers, Logger: hclog.New(&hclog.LoggerOptions{Output: &m.log}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return m
}

// exchange does what two nodes in step do in so many exchanges, a second apart.
func (m *mending) exchange(with string, times int) {
	for range times {
		other := m.peers.cluster[with].store
		m.Compared(with,
			replication.Status{SeenHash: m.store.SeenHash(), Digest: m.store.Digest()},
			replication.Status{SeenHash: other.SeenHash(), Digest: other.Digest()})
		time.Sleep(time.Second)
	}
}

func (m *mending) wantStats(t *testing.T, mismatches, mended, unexplained uint64) {
	t.Helper()
	want := replication.MenderStats{Mismatches: mismatches, Mended: mended, Unexplained: unexplained}
	if got := m.Stats(); got != want {
		t.Errorf("stats of node %s: got %+v, want %+v", m.id, got, want)
	}
	if got := m.store.Seen(); !got.Equal(m.seenBefore) {
		t.Errorf("seen set of node %s: got %v, want %v as before", m.id, got, m.seenBefore)
	}
}

// twins returns nodes that hold the same: k0, k1, ... with their names as values, d0, d1, ...
// deleted, and old, which was written twice.
func twins(t *testing.T, ids string, keys int) cluster {
	cl := newCluster(t, ids, setup{})
	for id := range cl {
		for i := range keys {
			key, v := fmt.Sprint("k", i), at(-900)
			v.Counter = uint64(10_000 + i)
			cl.put(t, id, record(key, key, v))
			if i < 10 {
				cl.put(t, id, tombstone(fmt.Sprint("d", i), at(-100-i)))
			}
		}
		cl.put(t, id, record("old", "older", at(-50)))
		cl.put(t, id, record("old", "newer", at(-40)))
	}
	return cl
}

func TestDamagedAndRevertedRecordsAreMendedByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := twins(t, "ab", 50)
		a, b := cl["a"].mender(t, nil), cl["b"].mender(t, nil)
		a.store.Damage("k3")
		a.store.Damage("k4")
		a.store.Revert(record("old", "older", at(-50)))
		a.store.Revert(record("d5", "deleted", at(-200)))
		b.store.Damage("k7")
		for range 3 {
			a.exchange("b", 1)
			b.exchange("a", 1)
		}
		cl.wantEqual(t, "ab")
		for key, want := range map[string]string{"k3": "k3", "k4": "k4", "old": "newer", "d5": "gone", "k7": "k7"} {
			cl.wantHeld(t, key, want, "ab")
		}
		a.wantStats(t, 1, 4, 0)
		b.wantStats(t, 1, 1, 0) // each mends itself alone
		for _, m := range []*mending{a, b} {
			log := m.log.String()
			if strings.Count(log, "digest differs") != 1 || strings.Count(log, "again") != 1 {
				t.Errorf("want one line at the begin and one at the end: %s", log)
			}
		}
		if got := a.count("fetch b"); got != 4 {
			t.Errorf("%d records were fetched, want 4", got)
		}
	})
}

// A key that a peer has may be one that was deleted: the tombstone was collected here, and the
// peer is what is wrong.
func TestRecordThatIsMissingWithoutATraceIsNotCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := twins(t, "abc", 50)
		a := cl["a"].mender(t, nil)
		a.store.Lose("k3")
		cl["b"].store.Revert(record("d5", "deleted", at(-200)))
		a.store.Lose("d5")
		a.store.Lose("d6") // collected: it makes no difference to the digest
		a.seenBefore.Add(at(-200).Dot)
		for _, id := range []string{"a", "b"} { // d5 had been written before it was deleted
			if err := cl[id].store.Unite(seen.Of(at(-200).Dot)); err != nil {
				t.Fatal(err)
			}
		}
		for range 120 {
			a.exchange("b", 2)
			time.Sleep(28 * time.Second)
		}
		a.wantStats(t, 1, 0, 2)
		cl.wantHeld(t, "k3", "nothing", "a")
		cl.wantHeld(t, "d5", "nothing", "a")
		log := a.log.String()
		if strings.Count(log, "not copied") != 1 || !strings.Contains(log, "number=2") || strings.Count(log, "digest differs") != 1 {
			t.Errorf("want one line that tells of both, after one that digests differ: %s", log)
		}
		if got := a.count("buckets b"); got < 8 || got > 20 {
			t.Errorf("in an hour they were compared %d times, want ever more rarely", got)
		}
		a.exchange("c", 5) // c holds k3 too, but not d5
		if got := a.Stats().Unexplained; got != 2 {
			t.Errorf("unexplained: got %d, want 2, whoever else has them", got)
		}
	})
}

func TestWhatIsDamagedOnBothNodesIsMendedFromAThird(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := twins(t, "abc", 50)
		a := cl["a"].mender(t, nil)
		a.store.Damage("k1")
		a.store.Damage("k2")
		cl["b"].store.Damage("k1")
		a.exchange("b", 4)
		cl.wantHeld(t, "k1", "damaged", "a")
		cl.wantHeld(t, "k2", "k2", "a")
		a.exchange("c", 3)
		cl.wantHeld(t, "k1", "k1", "a")
		cl.wantEqual(t, "ac")
		a.wantStats(t, 2, 2, 0) // with b the digest was the same once k2 was back
	})
}

func TestDigestsMustDifferTwiceWithTheSameSets(t *testing.T) {
	for name, row := range map[string]struct {
		exchanges string // blanks between; mine and theirs: a set and a digest each
		want      bool
	}{
		"once":                        {"1x1y", false},
		"twice":                       {"1x1y 1x1y", true},
		"equal digests":               {"1x1x 1x1x 1x1x", false},
		"other sets":                  {"1x2y 1x2y 1x2y", false},
		"a write between":             {"1x1y 2x2y", false},
		"writes all the time":         {"1x1y 2z2y 3x3y 4z4x", false},
		"a write between, then none":  {"1x1y 2x2y 2x2y", true},
		"in step between":             {"1x1y 1x1x 1x1y", false},
		"not in step between":         {"1x1y 1x2y 1x1y", false},
		"not in step, then confirmed": {"1x1y 1x2y 1x1y 1x1y", true},
		"digests change":              {"1x1y 1z1x", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := twins(t, "ab", 5)
				a := cl["a"].mender(t, nil)
				for e := range strings.FieldsSeq(row.exchanges) {
					a.Compared("b",
						replication.Status{SeenHash: uint64(e[0]), Digest: uint64(e[1])},
						replication.Status{SeenHash: uint64(e[2]), Digest: uint64(e[3])})
					synctest.Wait()
				}
				if got := a.Stats().Mismatches == 1; got != row.want {
					t.Errorf("mismatch: got %v, want %v", got, row.want)
				}
				if got := a.count("buckets b") == 1; got != row.want {
					t.Errorf("buckets compared: got %v, want %v", got, row.want)
				}
			})
		})
	}
}

func TestOnlyNodesThatHaveAllAreComparedWith(t *testing.T) {
	for name, change := range map[string]func(m *members){
		"peer is not synced": func(m *members) { m.synced("b", false) },
		"peer is not live":   func(m *members) { m.live("b", false) },
		"self is not synced": func(m *members) { m.synced("a", false) },
		"peer is not known": func(m *members) {
			m.change(func(v *replication.View) { v.Members = v.Members[:1] })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := twins(t, "ab", 5)
				a := cl["a"].mender(t, nil)
				a.store.Damage("k1")
				change(a.members)
				a.exchange("b", 5)
				cl.wantHeld(t, "k1", "damaged", "a")
				if got := a.count("buckets b"); got != 0 {
					t.Errorf("compared %d times, want never", got)
				}
			})
		})
	}
}

// On many keys the work is done in parts, each of which an exchange asks for.
func TestOneComparisonIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys = 2500
		cl := twins(t, "ab", keys)
		other := otherPeers{peers: cl["a"].peers}
		other.contents = func([]int) ([]replication.Held, error) {
			all := make([]int, replication.DigestBuckets) // as if a few buckets held all keys
			for i := range all {
				all[i] = i
			}
			return other.peers.Contents(t.Context(), "b", all)
		}
		a := cl["a"].mender(t, other)
		for i := range keys {
			a.store.Damage(fmt.Sprint("k", i))
		}
		a.exchange("b", 1)
		for i := 0; a.Stats().Mended < keys; i++ {
			before := a.Stats().Mended
			a.exchange("b", 1)
			if got, want := a.Stats().Mended-before, min(1000, keys-before); got != want {
				t.Fatalf("%d mended in part %d, want %d", got, i, want)
			}
		}
		a.exchange("b", 1)
		cl.wantEqual(t, "ab")
		a.wantStats(t, 1, keys, 0)
	})
}

// What cannot be mended does not keep a node from what can.
func TestComparisonsGoRoundAllBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := twins(t, "ab", 700)
		a := cl["a"].mender(t, nil)
		var keys []string
		for i := range 700 {
			keys = append(keys, fmt.Sprint("k", i))
		}
		slices.SortFunc(keys, func(x, y string) int { return replication.BucketOf(x) - replication.BucketOf(y) })
		last := keys[len(keys)-1]
		for _, key := range keys[:len(keys)-1] {
			a.store.Lose(key)
		}
		a.store.Damage(last)
		for range 40 {
			a.exchange("b", 2)
			time.Sleep(8 * time.Second)
		}
		a.wantStats(t, 1, 1, 699)
		cl.wantHeld(t, last, last, "a")
	})
}

// otherPeers answers in place of the real ones.
type otherPeers struct {
	*peers
	buckets  func() ([]uint64, error)
	contents func(buckets []int) ([]replication.Held, error)
}

func (p otherPeers) Buckets(ctx context.Context, id string) ([]uint64, error) {
	if p.buckets == nil {
		return p.peers.Buckets(ctx, id)
	}
	return p.buckets()
}

func (p otherPeers) Contents(ctx context.Context, id string, buckets []int) ([]replication.Held, error) {
	if p.contents == nil {
		return p.peers.Contents(ctx, id, buckets)
	}
	return p.contents(buckets)
}

func TestWritesOnTheirWayAreNotTakenForLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := twins(t, "ab", 5)
		other := otherPeers{peers: cl["a"].peers}
		other.contents = func(buckets []int) ([]replication.Held, error) {
			cl.put(t, "b", record("k9", "new", at(-1)))
			cl.put(t, "b", record("k1", "new", at(-2)))
			held, err := other.peers.Contents(t.Context(), "b", buckets)
			for _, key := range []string{"k9", "k1"} {
				m, _ := cl["b"].store.Lookup(key)
				held = append(held, replication.Held{Key: key, Version: m.Version})
			}
			return held, err
		}
		a := cl["a"].mender(t, other)
		a.store.Damage("k2")
		a.exchange("b", 2)
		a.wantStats(t, 1, 1, 0)
		cl.wantHeld(t, "k1", "k1", "a") // catching up brings it
	})
}

func TestPeerThatFailsOrAnswersNonsenseIsAskedEverMoreRarely(t *testing.T) {
	asked := new(atomic.Int64)
	for name, change := range map[string]func(p *otherPeers, n *node){
		"no buckets": func(p *otherPeers, _ *node) {
			p.buckets = func() ([]uint64, error) { asked.Add(1); return nil, errRefused }
		},
		"too few buckets": func(p *otherPeers, _ *node) {
			p.buckets = func() ([]uint64, error) { asked.Add(1); return make([]uint64, 7), nil }
		},
		"no contents": func(p *otherPeers, _ *node) {
			p.contents = func([]int) ([]replication.Held, error) { asked.Add(1); return nil, errRefused }
		},
		"hangs": func(p *otherPeers, n *node) {
			n.peers.set("b", func(ctx context.Context) error { asked.Add(1); return freezes(ctx) })
		},
		"own disk is full": func(p *otherPeers, n *node) {
			n.store.FailWrites(replication.ErrDiskFull)
			p.contents = func(b []int) ([]replication.Held, error) {
				asked.Add(1)
				return p.peers.Contents(context.Background(), "b", b)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked.Store(0)
				cl := twins(t, "ab", 5)
				n := cl["a"]
				other := otherPeers{peers: n.peers}
				change(&other, n)
				a := n.mender(t, &other)
				n.store.Damage("k1")
				for range 120 {
					a.exchange("b", 2)
					time.Sleep(13 * time.Second)
				}
				if got := asked.Load(); got < 5 || got > 15 {
					t.Errorf("asked %d times in half an hour, want ever more rarely", got)
				}
				if strings.Count(a.log.String(), "was not completed") != int(asked.Load()) {
					t.Errorf("the log does not say why: %s", &a.log)
				}
				a.wantStats(t, 1, 0, 0)
				cl.wantHeld(t, "k1", "damaged", "a")
			})
		})
	}
}

func TestMenderActsOnWhatTheMonitorFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := twins(t, "ab", 20)
		a := cl["a"].mender(t, nil)
		m, err := replication.NewMonitor(replication.MonitorConfig{
			Replica: a.Replica(), Members: a.members, Peers: a.peers, Memory: a.memory, Compared: a.Compared,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		time.Sleep(time.Minute)
		if got := a.count("buckets b"); got != 0 {
			t.Errorf("in step: compared %d times, want never", got)
		}
		a.store.Damage("k1")
		time.Sleep(5 * time.Second)
		cl.wantEqual(t, "ab")
		a.wantStats(t, 1, 1, 0)
		// Writes go on, and make nobody compare anything.
		for range 200 {
			cl["b"].put(t, 1, "w", "v")
			time.Sleep(33 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		if got := a.Stats().Mismatches; got != 1 {
			t.Errorf("%d mismatches after writes, want 1", got)
		}
	})
}

func TestMenderConfigReportsAllProblemsAtOnce(t *testing.T) {
	_, err := replication.NewMender(replication.MenderConfig{CallTimeout: -1})
	for _, want := range []string{"Replica", "Members", "Peers", "CallTimeout -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}
