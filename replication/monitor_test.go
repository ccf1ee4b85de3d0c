package replication_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// monitor starts a node's monitor, which ends with the test.
func (n *node) monitor(t *testing.T) *replication.Monitor {
	t.Helper()
	m, err := replication.NewMonitor(replication.MonitorConfig{Replica: n.Replica(), Members: n.members, Peers: n.peers, Memory: n.memory})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return m
}

func TestMonitorNoticesWhoIsSilentAndWhoIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abcd", setup{})
		a := cl["a"]
		a.members.rosters("abc") // d is a learner
		a.monitor(t)
		live := func() (ids string) {
			for _, m := range a.members.View().Members {
				if m.Live {
					ids += m.ID
				}
			}
			return ids
		}
		for _, step := range []struct {
			id   string
			link link
			want string
		}{{"b", freezes, "acd"}, {"d", refuses, "ac"}, {"b", nil, "abc"}, {"d", nil, "abcd"}} {
			cl.spoil(step.id, step.link)
			time.Sleep(2500 * time.Millisecond) // the pace, and the silence
			if got := live(); got != step.want {
				t.Errorf("after %s changed: live are %s, want %s", step.id, got, step.want)
			}
		}
		for _, call := range a.peers.called() {
			if call == "exchange a" {
				t.Error("exchanged with itself")
			}
		}
	})
}

func TestMonitorHasOneExchangePerPeerAtATimeAboutEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl["a"].monitor(t)
		cl.spoil("b", freezes)
		time.Sleep(time.Minute)
		count := func(what string) (n int) {
			for _, call := range cl["a"].peers.called() {
				if call == what {
					n++
				}
			}
			return n
		}
		if got := count("exchange c"); got < 50 || got > 75 {
			t.Errorf("%d exchanges in a minute, want about 60", got)
		}
		if got := count("exchange b"); got < 25 || got > 37 {
			t.Errorf("%d exchanges in a minute with a frozen peer, want about 30: each takes a second", got)
		}
	})
}

func TestMonitorFollowsTheMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a := cl["a"]
		all := a.members.View().Members
		a.members.change(func(v *replication.View) { v.Members = all[:2] })
		m := a.monitor(t)
		known := func() string {
			var ids []string
			for _, id := range []string{"a", "b", "c"} {
				if _, known := m.Peer(id); known {
					ids = append(ids, id)
				}
			}
			return strings.Join(ids, "")
		}
		time.Sleep(time.Second)
		if got := known(); got != "b" {
			t.Errorf("known: got %q, want b", got)
		}
		a.members.change(func(v *replication.View) { v.Members = slices.Delete(slices.Clone(all), 1, 2) })
		time.Sleep(time.Second)
		if got := known(); got != "c" {
			t.Errorf("known after b left and c came: got %q, want c", got)
		}
	})
}

func TestBehindCountsExactlyWhatAPeerIsNotKnownToHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a := cl["a"]
		m := a.monitor(t)
		put := func(n int) {
			for range n {
				if _, err := a.Put(t.Context(), "foo", nil, "", replication.LevelDefault); err != nil {
					t.Fatal(err)
				}
			}
		}
		behind := func() uint64 {
			t.Helper()
			b, known := m.Peer("b")
			if !known || b.Origin != 2 {
				t.Fatalf("peer b: got %+v, known %v", b, known)
			}
			return b.Behind
		}
		put(5)
		time.Sleep(2 * time.Second)
		if got := behind(); got != 0 {
			t.Errorf("in step: behind %d, want 0", got)
		}
		cl.spoil("b", refuses)
		put(7)
		if got := behind(); got != 7 {
			t.Errorf("cut off: behind %d, want 7", got)
		}
		// It is back, and somebody else brings two of the seven.
		r, err := a.store.Get("foo")
		if err != nil {
			t.Fatal(err)
		}
		for _, counter := range []uint64{7, 9} {
			r.Version.Counter = counter
			cl.put(t, "b", r)
		}
		cl.spoil("b", nil)
		time.Sleep(2 * time.Second)
		if got := behind(); got != 5 {
			t.Errorf("with a gap filled: behind %d, want 5", got)
		}
		if b, _ := m.Peer("b"); b.Keys != 1 {
			t.Errorf("keys: got %d, want 1", b.Keys)
		}
	})
}

// A nil set in an answer means the set as it was when its hash was sent.
func TestWritesDuringAnExchangeAreNotTakenForKnownToThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		a := cl["a"]
		a.peers.answered = func(what, _ string) {
			if what == "exchange" && a.store.Seen().Last(99) == 0 {
				cl.put(t, "a", record("foo", "bar", at(-9)))
			}
		}
		m := a.monitor(t)
		synctest.Wait() // one exchange
		if b, known := m.Peer("b"); !known || b.Behind != 1 {
			t.Errorf("behind: got %d, known %v, want 1", b.Behind, known)
		}
	})
}

func TestMonitorObservesClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{skew: map[string]time.Duration{"b": 400 * time.Millisecond}})
		ahead := cl["b"].clock.Next()
		cl["a"].monitor(t)
		synctest.Wait()
		if got := cl["a"].clock.Last(); got.Compare(ahead) < 0 {
			t.Errorf("clock is at %v, want at least the peer's %v", got, ahead)
		}
	})
}

func TestClockThatIsFarFromTheMedianOfItsPeersSaysSo(t *testing.T) {
	const ms = time.Millisecond
	for name, row := range map[string]struct {
		skew map[string]time.Duration
		rtt  time.Duration
		want string // in the error of a; empty for none
	}{
		"all agree":              {map[string]time.Duration{"b": 20 * ms, "c": -20 * ms}, 10 * ms, ""},
		"own is behind":          {map[string]time.Duration{"b": 300 * ms, "c": 320 * ms}, 10 * ms, "300ms behind the median of 2 peers"},
		"own is ahead":           {map[string]time.Duration{"b": -300 * ms, "c": -300 * ms}, 10 * ms, "300ms ahead of the median of 2 peers"},
		"just within":            {map[string]time.Duration{"b": 250 * ms, "c": 250 * ms}, 10 * ms, ""},
		"one peer is off":        {map[string]time.Duration{"b": time.Hour}, 10 * ms, ""},
		"two peers are off":      {map[string]time.Duration{"b": time.Hour, "c": -time.Hour}, 10 * ms, ""},
		"too slow to tell":       {map[string]time.Duration{"b": 300 * ms, "c": 320 * ms}, 101 * ms, ""},
		"slow enough to mislead": {map[string]time.Duration{"b": 30 * ms, "c": 30 * ms}, 100 * ms, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, "abc", setup{skew: row.skew})
				// Half of the round trip before the answer, half after it.
				cl.spoil("b", takes(row.rtt/2))
				cl.spoil("c", takes(row.rtt/2))
				cl["a"].peers.answered = func(string, string) { time.Sleep(row.rtt / 2) }
				m := cl["a"].monitor(t)
				time.Sleep(3 * time.Second)
				got := ""
				if err := m.Skew(); err != nil {
					got = err.Error()
				}
				if (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
					t.Errorf("got %q, want %q", got, row.want)
				}
				if b, _ := m.Peer("b"); b.SkewKnown && b.Skew != row.skew["b"] || b.RTT != row.rtt/2*2 {
					t.Errorf("peer b: skew %v, round trip %v, want %v, %v", b.Skew, b.RTT, row.skew["b"], row.rtt)
				}
			})
		})
	}
}

func TestOldSamplesOfClocksCountNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{skew: map[string]time.Duration{"b": time.Second, "c": time.Second}})
		m := cl["a"].monitor(t)
		time.Sleep(2 * time.Second)
		if m.Skew() == nil {
			t.Fatal("a clock that is a second off does not say so")
		}
		cl.spoil("b", freezes)
		time.Sleep(15 * time.Second)
		if err := m.Skew(); err != nil {
			t.Errorf("one peer is left to compare with: got %v, want none", err)
		}
	})
}

func TestStatusTellsTheSeenSetOnlyIfItDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		if _, err := cl["a"].Put(t.Context(), "foo", nil, "", replication.LevelOne); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cl.put(t, "b", tombstone("bar", at(-9)))
		ask := func(hash uint64) replication.Status {
			return cl["b"].Replica().Status("a", replication.Status{SeenHash: hash})
		}
		status := ask(cl["a"].store.SeenHash())
		if status.Origin != 2 || status.Keys != 1 || status.Seen == nil || !status.Seen.Equal(cl["b"].store.Seen()) ||
			status.SeenHash != status.Seen.Hash() || !status.Wall.Equal(time.Now()) || status.Clock == (version.Timestamp{}) {
			t.Errorf("got %+v, want origin 2, one key, the seen set and the clocks", status)
		}
		if again := ask(status.SeenHash); again.Seen != nil || again.SeenHash != status.SeenHash {
			t.Errorf("to one with the same set: got %+v, want no set", again)
		}
	})
}

func TestMonitorConfigReportsAllProblemsAtOnce(t *testing.T) {
	_, err := replication.NewMonitor(replication.MonitorConfig{Interval: -1, Silence: -1})
	for _, want := range []string{"Replica", "Members", "Peers", "Memory", "Interval -1ns", "Silence -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

// A node alone answers its first client, who need not wait for a comparison with nobody.
func TestNodeAloneNeedsNoComparison(t *testing.T) {
	for ids, want := range map[string]bool{"a": true, "ab": false} {
		a := newCluster(t, ids, setup{})["a"]
		a.members.rosters(ids)
		m, err := replication.NewMonitor(replication.MonitorConfig{Replica: a.Replica(), Members: a.members, Peers: a.peers, Memory: a.memory})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Checked(); got != want {
			t.Errorf("members %s, before anything was compared: checked is %v, want %v", ids, got, want)
		}
	}
}
