package roster_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/protocol7/snakes/membership/roster"
)

// id returns a node id that is easy to tell apart.
func id(n int) string { return fmt.Sprintf("%032x", n) }

func with(t *testing.T, r roster.Roster, changes ...roster.Change) roster.Roster {
	t.Helper()
	for _, c := range changes {
		next, err := r.With(c)
		if err != nil {
			t.Fatalf("%v with %v: %v", r, c, err)
		}
		r = next
	}
	return r
}

func TestMembersAreAddedAndNotRemoved(t *testing.T) {
	r := with(t, roster.Found(id(1)),
		roster.Change{Add: id(3)}, roster.Change{Add: id(2)}, roster.Change{Remove: id(1)}, roster.Change{Add: id(4), Remove: id(3)})
	if got, want := r.Members(), []string{id(2), id(4)}; !slices.Equal(got, want) {
		t.Errorf("members: got %v, want %v", got, want)
	}
	if !r.HasRemoved(id(1)) || r.Has(id(1)) || !r.Has(id(4)) {
		t.Errorf("%v: has and removed disagree with its members", r)
	}
}

func TestARemovedIDNeverReturns(t *testing.T) {
	r := with(t, roster.Found(id(1)), roster.Change{Add: id(2)}, roster.Change{Remove: id(2)})
	for _, c := range []roster.Change{{Add: id(2)}, {Add: id(2), Remove: id(1)}, {Add: id(1)}, {Remove: id(2)}, {Remove: "x"}, {Add: id(9), Remove: id(9)}, {}} {
		if next, err := r.With(c); !errors.Is(err, roster.ErrBadChange) {
			t.Errorf("%+v: got %v, %v, want ErrBadChange", c, next, err)
		}
	}
}

func TestRemovingSomebodyWhoNeverWasInLeavesN(t *testing.T) {
	r := with(t, roster.Found(id(1)), roster.Change{Add: id(2)})
	next := with(t, r, roster.Change{Remove: id(3)})
	if got := next.Members(); !slices.Equal(got, r.Members()) {
		t.Errorf("members: got %v, want %v", got, r.Members())
	}
	if after, err := next.With(roster.Change{Add: id(3)}); !errors.Is(err, roster.ErrBadChange) {
		t.Errorf("adding it afterwards: got %v, %v, want ErrBadChange", after, err)
	}
}

func TestHashTellsRostersApart(t *testing.T) {
	base := roster.Found(id(1))
	rosters := []roster.Roster{
		base, roster.Found(id(1)),
		with(t, base, roster.Change{Add: id(2)}),
		with(t, base, roster.Change{Add: id(2)}, roster.Change{Remove: id(2)}),
		with(t, base, roster.Change{Add: id(2), Remove: id(1)}),
	}
	for i, a := range rosters {
		for j, b := range rosters {
			if got, want := a.Hash() == b.Hash(), i == j; got != want {
				t.Errorf("rosters %d and %d: same hash %v, want %v", i, j, got, want)
			}
		}
	}
}

func TestContainsIsTheOrderOfTheChain(t *testing.T) {
	first := roster.Found(id(1))
	second := with(t, first, roster.Change{Add: id(2)})
	if !second.Contains(first) || first.Contains(second) || !first.Contains(first) {
		t.Errorf("a roster must contain itself and those before it, and no others")
	}
	if roster.Found(id(1)).Contains(first) {
		t.Errorf("a roster contains one of another cluster")
	}
}

func TestJoinIsRefusedOnceTheRosterHasMoved(t *testing.T) {
	l, err := roster.Open(roster.Config{Self: id(1), Save: func([]byte) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	own, other := roster.Found(id(1)), roster.Found(id(2))
	if err := l.Join(roster.Roster{}, own); err != nil {
		t.Fatal(err)
	}
	if err := l.Join(roster.Roster{}, other); !errors.Is(err, roster.ErrMoved) {
		t.Errorf("join decided before the first: got %v, want ErrMoved", err)
	}
	next := with(t, own, roster.Change{Add: id(3)})
	ask := roster.Message{From: l.Knowledge(), Base: own.Hash(), Ballot: roster.Ballot{Round: 1, Node: id(1)}, Next: &next}
	if r, err := l.Answer(ask); err != nil || !r.OK {
		t.Fatalf("accept: got %+v, %v", r, err)
	}
	if err := l.Join(own, other); !errors.Is(err, roster.ErrMoved) {
		t.Errorf("join while a change is under way: got %v, want ErrMoved", err)
	}
	if got := l.Roster(); !got.Equal(own) {
		t.Errorf("roster: got %v, want %v", got, own)
	}
}
