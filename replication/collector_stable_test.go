package replication

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

func tick(counter uint64) version.Version {
	return version.Version{Timestamp: version.Timestamp{Wall: int64(counter)}, Dot: version.Dot{Origin: 1, Counter: counter}}
}

// A row is a picture: whom this node, x, knows, and from whom it has pulled the tombstone.
func TestTombstoneIsStableOnceItWasPulledFromAllWhoMayHoldARecord(t *testing.T) {
	for name, row := range map[string]struct {
		members string // known; a small letter is not live, which makes no difference
		rosters string // the one in force first
		pulled  string
		ahead   bool // the tombstone is from ahead of the clock
		unseen  bool // x itself has not seen it
		want    string
	}{
		"alone":                          {"X", "x", "", false, false, ""},
		"not joined":                     {"X", "", "", false, false, "x"},
		"not joined, others are known":   {"ABX", "", "ab", false, false, "x"},
		"pulled from nobody":             {"ABX", "abx", "", false, false, "ab"},
		"pulled from one":                {"ABX", "abx", "b", false, false, "a"},
		"pulled from all":                {"ABX", "abx", "ab", false, false, ""},
		"one is down":                    {"AbX", "abx", "a", false, false, "b"},
		"one is down but had it":         {"AbX", "abx", "ab", false, false, ""},
		"a learner has it not":           {"ABDX", "abx", "ab", false, false, "d"},
		"a learner that is down":         {"ABdX", "abx", "ab", false, false, "d"},
		"a learner has it":               {"ABDX", "abx", "abd", false, false, ""},
		"a learner collects":             {"ABDX", "ab", "ab", false, false, "d"},
		"a change is pending":            {"ABCX", "abx abcx", "ab", false, false, "c"},
		"the one to come is not a known": {"ABX", "abx abcx", "ab", false, false, "c"},
		"one is to be removed":           {"ABX", "abx ax", "a", false, false, "b"},
		"several changes are pending":    {"ABCDX", "abx abcx abdx", "abc", false, false, "d"},
		"all of several have it":         {"ABCDX", "abx abcx abdx", "abcd", false, false, ""},
		"not seen here":                  {"ABX", "abx", "ab", false, true, "x"},
		"ahead of the clock":             {"ABX", "abx", "ab", true, false, "x"},
		"ahead, and not pulled":          {"ABX", "abx", "a", true, false, "bx"},
	} {
		t.Run(name, func(t *testing.T) {
			view := &View{Self: "x"}
			for id := range strings.SplitSeq(row.members, "") {
				view.Members = append(view.Members, Member{ID: strings.ToLower(id), Live: id == strings.ToUpper(id)})
			}
			for _, roster := range strings.Fields(row.rosters) {
				view.Rosters = append(view.Rosters, strings.Split(roster, ""))
			}
			grave := tick(5)
			mine := seen.Of(grave.Dot)
			if row.unseen {
				mine = seen.Of(tick(4).Dot)
			}
			s := stabilityOf(view, mine, func(id string) *seen.Set {
				if strings.Contains(row.pulled, id) {
					return seen.Of(grave.Dot)
				}
				return seen.Of(tick(4).Dot, tick(6).Dot) // others do not make up for it
			}, func(version.Timestamp) bool { return !row.ahead })
			if got := strings.Join(s.waitsFor(grave), ""); got != row.want {
				t.Errorf("waits for %q, want %q", got, row.want)
			}
			if got := s.has(grave); got != (row.want == "") {
				t.Errorf("stable: got %v, want %v", got, row.want == "")
			}
		})
	}
}

// The rule in sets: the intersection of what was pulled from all who are known anywhere.
func TestStableIsTheIntersectionOverAllWhoAreKnown(t *testing.T) {
	const dots = 8
	ids := strings.Split("abcdex", "")
	subset := rapid.SliceOfDistinct(rapid.SampledFrom(ids), func(id string) string { return id })
	set := rapid.Custom(func(t *rapid.T) *seen.Set {
		s := new(seen.Set)
		for _, c := range rapid.SliceOf(rapid.Uint64Range(1, dots)).Draw(t, "counters") {
			s.Add(tick(c).Dot)
		}
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		view := &View{Self: "x"}
		others := make(map[string]bool)
		for range rapid.IntRange(1, 3).Draw(t, "rosters") {
			view.Rosters = append(view.Rosters, subset.Draw(t, "roster"))
		}
		for _, id := range subset.Draw(t, "members") {
			view.Members = append(view.Members, Member{ID: id, Live: rapid.Bool().Draw(t, "live")})
			others[id] = true
		}
		for _, id := range slices.Concat(view.Rosters...) {
			others[id] = true
		}
		delete(others, "x")
		pulled := make(map[string]*seen.Set)
		for _, id := range ids {
			pulled[id] = set.Draw(t, "pulled from "+id)
		}
		mine, now := set.Draw(t, "mine"), rapid.Int64Range(0, dots).Draw(t, "clock")
		past := func(ts version.Timestamp) bool { return ts.Wall <= now }
		s := stabilityOf(view, mine, func(id string) *seen.Set { return pulled[id] }, past)
		for c := uint64(1); c <= dots; c++ {
			v := tick(c)
			waits := make(map[string]bool)
			for id := range others {
				if !pulled[id].Has(v.Dot) {
					waits[id] = true
				}
			}
			if !mine.Has(v.Dot) || int64(c) > now {
				waits["x"] = true
			}
			if got, want := s.waitsFor(v), slices.Sorted(maps.Keys(waits)); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
				t.Fatalf("tombstone %d waits for %v, want %v", c, got, want)
			}
			if got := s.has(v); got != (len(waits) == 0) {
				t.Fatalf("tombstone %d: stable %v though it waits for %v", c, got, waits)
			}
			// Whoever comes to be known can only keep it, never let it go.
			more := &View{Self: "x", Rosters: view.Rosters, Members: append(slices.Clone(view.Members), Member{ID: fmt.Sprint("new", c)})}
			if stabilityOf(more, mine, func(id string) *seen.Set {
				if p := pulled[id]; p != nil {
					return p
				}
				return new(seen.Set)
			}, past).has(v) {
				t.Fatalf("tombstone %d is stable though there is one who was never pulled from", c)
			}
		}
	})
}
