package replication_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/storetest"
)

// offersOf returns the answering side over a store of its own, of node a of abc.
func offersOf(t *testing.T, store replication.Store, with replication.OffersConfig) *replication.Offers {
	t.Helper()
	with.Store = store
	if with.Members == nil {
		with.Members = newMembers("a", "abc")
	}
	o, err := replication.NewOffers(with)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func open(t *testing.T, o *replication.Offers, from string, theirs *seen.Set) replication.Pull {
	t.Helper()
	pull, err := o.OpenPull(from, theirs)
	if err != nil {
		t.Fatal(err)
	}
	return pull
}

// pages returns the keys of each page of a pull, and whether one was incomplete.
func pages(t *testing.T, o *replication.Offers, pull replication.Pull) (keys []string, incomplete bool) {
	t.Helper()
	for from := uint64(0); ; {
		page, err := o.NextPage(pull.ID, from)
		if err != nil {
			t.Fatal(err)
		}
		var on []string
		for _, r := range page.Records {
			on = append(on, r.Key)
		}
		keys = append(keys, strings.Join(on, ","))
		incomplete = incomplete || page.Incomplete
		if page.Next == 0 {
			return keys, incomplete
		}
		if page.Next <= from {
			t.Fatalf("after page %d comes page %d", from, page.Next)
		}
		from = page.Next
	}
}

func TestPagesHoldWhatIsLackingWithinTheirLimits(t *testing.T) {
	fill := func() *storetest.Memory {
		store := new(storetest.Memory)
		for i, size := range []int{10, 5000, 10, 300, 300, 300, 10} {
			store.Apply([]replication.Record{record(fmt.Sprintf("k%d", i), strings.Repeat("x", size), at(i+1))})
		}
		return store
	}
	few, all := seen.Of(at(1).Dot, at(6).Dot, at(7).Dot), fill().Seen()
	for name, row := range map[string]struct {
		with   replication.OffersConfig
		theirs *seen.Set
		want   []string
	}{
		"all on one":         {replication.OffersConfig{}, new(seen.Set), []string{"k0,k1,k2,k3,k4,k5,k6"}},
		"some":               {replication.OffersConfig{}, few, []string{"k1,k2,k3,k4"}},
		"nothing":            {replication.OffersConfig{}, all, []string{""}},
		"by number":          {replication.OffersConfig{PageRecords: 3}, new(seen.Set), []string{"k0,k1,k2", "k3,k4,k5", "k6"}},
		"number that fits":   {replication.OffersConfig{PageRecords: 2}, few, []string{"k1,k2", "k3,k4"}},
		"by size":            {replication.OffersConfig{PageBytes: 1000}, new(seen.Set), []string{"k0", "k1", "k2,k3,k4", "k5,k6"}},
		"too large for any":  {replication.OffersConfig{PageBytes: 1}, few, []string{"k1", "k2", "k3", "k4"}},
		"size ends the last": {replication.OffersConfig{PageBytes: 5100}, few, []string{"k1", "k2,k3,k4"}},
	} {
		t.Run(name, func(t *testing.T) {
			store := fill()
			o := offersOf(t, store, row.with)
			pull := open(t, o, "b", row.theirs)
			got, incomplete := pages(t, o, pull)
			if !slices.Equal(got, row.want) || incomplete {
				t.Errorf("got %q, incomplete %v, want %q", got, incomplete, row.want)
			}
			keys := 0
			for _, page := range got {
				keys += len(strings.FieldsFunc(page, func(c rune) bool { return c == ',' }))
			}
			if pull.Keys != uint64(keys) || !pull.Seen.Equal(store.Seen()) {
				t.Errorf("pull offers %d keys of %v, want %d of %v", pull.Keys, pull.Seen, keys, store.Seen())
			}
		})
	}
}

func TestPageHoldsTheRecordsOfItsTimeAndCanBeAskedForAgain(t *testing.T) {
	store := new(storetest.Memory)
	store.Apply([]replication.Record{record("a", "old", at(1)), record("b", "old", at(2)), record("c", "old", at(3))})
	o := offersOf(t, store, replication.OffersConfig{PageRecords: 2})
	pull := open(t, o, "b", new(seen.Set))
	store.Apply([]replication.Record{tombstone("b", at(4)), record("bb", "new", at(5)), record("c", "new", at(6))})
	for range 2 {
		page, err := o.NextPage(pull.ID, 2)
		if err != nil || page.Next != 0 || len(page.Records) != 1 || page.Records[0].Version != at(6) {
			t.Errorf("last page: got %v, %v, want c at %v", page, err, at(6))
		}
		page, err = o.NextPage(pull.ID, 0)
		if err != nil || page.Next != 2 || len(page.Records) != 2 || page.Records[1].Version != at(4) {
			t.Errorf("first page: got %v, %v, want b at %v last", page, err, at(4))
		}
	}
	if pull.Seen.Has(at(6).Dot) {
		t.Error("the pull's seen set grew with later writes")
	}
	if _, err := o.NextPage(pull.ID, 4); err == nil || errors.Is(err, replication.ErrPullGone) {
		t.Errorf("page from beyond the end: got %v, want an error", err)
	}
}

// meddled runs between two calls that the answering side makes to its store.
type meddled struct {
	replication.Store
	between func()
}

func (m *meddled) once() {
	if between := m.between; between != nil {
		m.between = nil
		between()
	}
}

func (m *meddled) Seen() *seen.Set {
	defer m.once()
	return m.Store.Seen()
}

func (m *meddled) Lacking(theirs *seen.Set) ([]string, bool) {
	defer m.once()
	return m.Store.Lacking(theirs)
}

func TestWriteWhileAPullIsOpenedIsOfferedOrNotInItsSeenSet(t *testing.T) {
	store := new(storetest.Memory)
	store.Apply([]replication.Record{record("a", "old", at(1))})
	o := offersOf(t, &meddled{store, func() { store.Apply([]replication.Record{record("b", "new", at(2))}) }}, replication.OffersConfig{})
	pull := open(t, o, "b", new(seen.Set))
	got, _ := pages(t, o, pull)
	if pull.Seen.Has(at(2).Dot) && got[0] != "a,b" {
		t.Errorf("the pull's seen set is %v, but offered is only %s", pull.Seen, got[0])
	}
}

func TestUnreadableRecordsMakeAPullIncomplete(t *testing.T) {
	for name, spoil := range map[string]func(s *storetest.Memory){
		"damaged before": func(s *storetest.Memory) { s.Damage("k1") },
		"damaged all":    func(s *storetest.Memory) { s.Damage("k0"); s.Damage("k1"); s.Damage("k2") },
		"damaged last":   func(s *storetest.Memory) { s.Damage("k2") },
	} {
		for _, when := range []string{"opened", "asked for pages"} {
			t.Run(name+" it was "+when, func(t *testing.T) {
				store := new(storetest.Memory)
				for i := range 3 {
					store.Apply([]replication.Record{record(fmt.Sprintf("k%d", i), "v", at(i+1))})
				}
				o := offersOf(t, store, replication.OffersConfig{PageRecords: 1})
				if when == "opened" {
					spoil(store)
				}
				pull := open(t, o, "b", new(seen.Set))
				spoil(store)
				if got, incomplete := pages(t, o, pull); !incomplete {
					t.Errorf("got pages %q for complete", got)
				}
			})
		}
	}
	t.Run("gone", func(t *testing.T) {
		store := &forgetful{Memory: new(storetest.Memory)}
		store.Apply([]replication.Record{tombstone("k0", at(1)), tombstone("k1", at(2)), tombstone("k2", at(3))})
		o := offersOf(t, store, replication.OffersConfig{})
		pull := open(t, o, "b", new(seen.Set))
		store.gone = "k1"
		if got, incomplete := pages(t, o, pull); !incomplete || got[0] != "k0,k2" {
			t.Errorf("got page %q, incomplete %v, want k0,k2 and incomplete", got, incomplete)
		}
	})
}

// forgetful has dropped one record.
type forgetful struct {
	*storetest.Memory
	gone string
}

func (f *forgetful) Get(key string) (replication.Record, error) {
	if key == f.gone {
		return replication.Record{}, replication.ErrNotFound
	}
	return f.Memory.Get(key)
}

func TestNodeThatIsNotSyncedAnswersNoPull(t *testing.T) {
	members := newMembers("a", "abc")
	members.synced("a", false)
	o := offersOf(t, new(storetest.Memory), replication.OffersConfig{Members: members})
	if _, err := o.OpenPull("b", new(seen.Set)); !errors.Is(err, replication.ErrNotReady) {
		t.Errorf("got %v, want ErrNotReady", err)
	}
	members.synced("a", true)
	open(t, o, "b", new(seen.Set))
}

func TestOpenPullsAreFewAndDoNotOutliveTheirUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := offersOf(t, new(storetest.Memory), replication.OffersConfig{})
		gone := func(pull replication.Pull) bool {
			_, err := o.NextPage(pull.ID, 0)
			if err != nil && !errors.Is(err, replication.ErrPullGone) {
				t.Fatal(err)
			}
			return err != nil
		}
		first := open(t, o, "b", new(seen.Set))
		second := open(t, o, "b", new(seen.Set))
		if !gone(first) || gone(second) {
			t.Error("a node has another pull than the one it opened last")
		}
		var others []replication.Pull
		for i := range 15 {
			time.Sleep(time.Second)
			others = append(others, open(t, o, fmt.Sprint(i), new(seen.Set)))
		}
		if gone(second) { // which makes it the one used last
			t.Error("16 pulls are too many")
		}
		open(t, o, "c", new(seen.Set))
		if !gone(others[0]) || gone(others[1]) || gone(second) {
			t.Error("not the longest idle pull gave way to a new one")
		}
		time.Sleep(50 * time.Second)
		if gone(others[5]) {
			t.Error("a pull was gone within a minute")
		}
		time.Sleep(20 * time.Second)
		if gone(others[5]) || !gone(others[6]) {
			t.Error("not the idle pull is gone after a minute, or another one is")
		}
	})
}

func TestPullOfAnEarlierProcessIsGone(t *testing.T) {
	store := new(storetest.Memory)
	pull := open(t, offersOf(t, store, replication.OffersConfig{}), "b", new(seen.Set))
	again := offersOf(t, store, replication.OffersConfig{})
	open(t, again, "c", new(seen.Set))
	if _, err := again.NextPage(pull.ID, 0); !errors.Is(err, replication.ErrPullGone) {
		t.Errorf("got %v, want ErrPullGone", err)
	}
}

func TestOffersConfigReportsAllProblemsAtOnce(t *testing.T) {
	_, err := replication.NewOffers(replication.OffersConfig{PageBytes: -1, PageRecords: -2})
	for _, want := range []string{"Store", "Members", "PageBytes -1", "PageRecords -2"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}
