package replication_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/protocol7/snakes/replication"
)

func TestStatsTellHowRequestsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a := cl["a"]
		put := func(ctx context.Context, key string, level replication.Level) {
			_, _ = a.Put(ctx, key, nil, "", level) // what it returns, others test
		}
		put(t.Context(), "foo", replication.LevelAll)
		put(t.Context(), "no key", replication.LevelAll)
		put(t.Context(), "foo", -9)
		_, _, _ = a.Get(t.Context(), "foo", replication.LevelAll)
		_, _, _ = a.Get(t.Context(), "nothing", replication.LevelAll)
		_, _ = a.Delete(t.Context(), "foo", replication.LevelAll)
		_, _, _ = a.List(t.Context(), replication.Span{Limit: 1}, replication.LevelAll)
		want := replication.CoordinatorStats{
			Puts: replication.Outcomes{OK: 1}, Gets: replication.Outcomes{OK: 2},
			Deletes: replication.Outcomes{OK: 1}, Lists: replication.Outcomes{OK: 1},
		}
		if got := a.Stats(); got != want {
			t.Errorf("when all are well: got %+v, want %+v", got, want)
		}

		ended, end := context.WithCancel(t.Context())
		end()
		put(ended, "foo", replication.LevelAll)
		cl.spoil("b", freezes)
		put(t.Context(), "foo", replication.LevelAll) // b is live as far as is known
		_, _, _ = a.Get(t.Context(), "foo", replication.LevelAll)
		a.members.live("b", false)
		put(t.Context(), "foo", replication.LevelAll)
		_, _, _ = a.List(t.Context(), replication.Span{Limit: 1}, replication.LevelAll)
		want.Puts.Unknown++
		want.Gets.TooFew++
		want.Puts.Abandoned++
		want.Puts.TooFew++
		want.Lists.TooFew++
		if got := a.Stats(); got != want {
			t.Errorf("without b: got %+v, want %+v", got, want)
		}
		if got := cl["c"].Stats(); got != (replication.CoordinatorStats{}) {
			t.Errorf("of a node that coordinated nothing: got %+v, want nothing", got)
		}
		a.Close()
		put(t.Context(), "foo", replication.LevelOne)
		if got := a.Stats(); got != want {
			t.Errorf("after Close: got %+v, want %+v", got, want)
		}
	})
}

func TestStatsCountAJoiningNodesRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "a", setup{})
		cl["a"].members.rosters()
		_, _ = cl["a"].Put(t.Context(), "foo", nil, "", replication.LevelDefault)
		_, _ = cl["a"].Put(t.Context(), "foo", nil, "", replication.LevelOne)
		if got, want := cl["a"].Stats().Puts, (replication.Outcomes{OK: 1, TooFew: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}
