package replication

import (
	"slices"
	"testing"
)

func TestWhatAPeerHoldsTellsWhatIsLostHere(t *testing.T) {
	damaged, absent := Meta{}, Meta{}
	for name, row := range map[string]struct {
		own     Meta
		err     error
		version uint64 // the peer's
		deleted bool
		want    lack
	}{
		"same":                     {Meta{Version: tick(5)}, nil, 5, false, inStep},
		"older here":               {Meta{Version: tick(4)}, nil, 5, false, lost},
		"newer here":               {Meta{Version: tick(6)}, nil, 5, false, inStep},
		"deleted there later":      {Meta{Version: tick(4)}, nil, 5, true, lost},
		"deleted here later":       {Meta{Version: tick(6), Deleted: true}, nil, 5, false, inStep},
		"deleted here earlier":     {Meta{Version: tick(4), Deleted: true}, nil, 5, false, lost},
		"damaged here":             {damaged, ErrDamaged, 5, false, lost},
		"damaged here, a deletion": {damaged, ErrDamaged, 5, true, lost},
		"absent here":              {absent, ErrNotFound, 5, false, unexplained},
		"collected here":           {absent, ErrNotFound, 5, true, inStep},
	} {
		got := lacks(row.own, row.err, Held{Key: "k", Version: tick(row.version), Deleted: row.deleted})
		if got != row.want {
			t.Errorf("%s: got %d, want %d", name, got, row.want)
		}
	}
}

func TestDifferencesGoRoundOnce(t *testing.T) {
	mine, theirs := []uint64{1, 2, 3, 4, 5}, []uint64{0, 2, 0, 4, 0}
	for _, row := range []struct {
		from, most int
		want       []int
	}{{0, 9, []int{0, 2, 4}}, {0, 2, []int{0, 2}}, {1, 9, []int{2, 4, 0}}, {4, 2, []int{4, 0}}, {3, 1, []int{4}}} {
		if got := differences(mine, theirs, row.from, row.most); !slices.Equal(got, row.want) {
			t.Errorf("from %d, at most %d: got %v, want %v", row.from, row.most, got, row.want)
		}
	}
	if got := differences(mine, mine, 0, 9); len(got) > 0 {
		t.Errorf("of equal slices: got %v", got)
	}
}
