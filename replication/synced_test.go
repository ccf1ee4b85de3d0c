package replication

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

// A row is a picture: who is in which roster, who is up, and what this node, x, has pulled. In
// members a capital letter is live and synced, a small one is not live, and one in brackets is
// live but not synced.
func TestNodeIsSyncedOnceItHasPulledFromEnoughOthers(t *testing.T) {
	for name, row := range map[string]struct {
		members string
		rosters string // the one in force first; x is this node
		pulled  string
		blank   bool // it is not marked
		want    bool
	}{
		"not joined":                        {"", "", "", false, false},
		"not joined, new":                   {"", "", "", true, false},
		"alone":                             {"", "x", "", false, true},
		"alone and new":                     {"", "x", "", true, true},
		"member with its data":              {"AB", "abx", "", false, true},
		"member with its data, all down":    {"ab", "abx", "", false, true},
		"learner has pulled from one of 3":  {"ABC", "abc", "a", false, false},
		"learner has pulled from two of 3":  {"ABC", "abc", "ab", false, false},
		"learner has pulled from all":       {"ABC", "abc", "abc", false, true},
		"one is down, the others pulled":    {"ABc", "abc", "ab", false, true},
		"one went down after it was pulled": {"aBC", "abc", "abc", false, true},
		"one is not synced itself":          {"AB(C)", "abc", "ab", false, true},
		"two are down":                      {"Abc", "abc", "a", false, false},
		"learner of one":                    {"A", "a", "a", true, true},
		"learner of one, nothing pulled":    {"A", "a", "", true, false},
		"learner of two, one down":          {"Ab", "ab", "a", true, true},
		"learner of four, two down":         {"ABcd", "abcd", "ab", true, true},
		"learner of four, three down":       {"Abcd", "abcd", "a", true, false},
		"another learner does not count":    {"ABcD", "abc", "ad", true, false},
		"another learner is not waited for": {"ABCD", "abc", "abc", true, true},
		"blank member of two":               {"A", "ax", "", true, false},
		"blank member of two has pulled":    {"A", "ax", "a", true, true},
		"blank member of 3, one down":       {"Ab", "abx", "a", true, false},
		"blank member of 3":                 {"AB", "abx", "ab", true, true},
		"blank member of 5, two down":       {"ABcd", "abcdx", "ab", true, false},
		"blank member of 5, one down":       {"ABCd", "abcdx", "abc", true, true},
		"new roster needs more":             {"ABcd", "ab abcdx", "ab", true, false},
		"new roster is met too":             {"ABCd", "ab abcdx", "abc", true, true},
		"member to be is live":              {"ABC", "ab abc", "ab", true, false},
		"promotion of this node is pending": {"ABC", "abc abcx", "abc", true, true},
		"data, but not yet in the roster":   {"ABC", "abc abcx", "", false, false},
		"promoted, pulled before alone":     {"ABC", "abcx", "", true, false},
		"promoted, pulled since":            {"ABC", "abcx", "abc", true, true},
		"blank like all others":             {"(AB)", "abx", "", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := caughtUp(viewOf(row.members, row.rosters), !row.blank, false, in(row.pulled))
			if got != row.want {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

// viewOf returns the view that members and rosters are a picture of.
func viewOf(members, rosters string) *View {
	view := &View{Self: "x"}
	synced := true
	for _, c := range members {
		switch c {
		case '(', ')':
			synced = c == ')'
		default:
			id := strings.ToLower(string(c))
			view.Members = append(view.Members, Member{ID: id, Live: id != string(c), Synced: synced})
		}
	}
	view.Members = append(view.Members, Member{ID: "x", Live: true})
	for _, roster := range strings.Fields(rosters) {
		view.Rosters = append(view.Rosters, strings.Split(roster, ""))
	}
	return view
}

func in(ids string) func(id string) bool {
	return func(id string) bool { return strings.Contains(ids, id) }
}

func TestNodeTellsHowManyMembersItWaitsFor(t *testing.T) {
	for name, row := range map[string]struct {
		members, rosters, pulled string
		marked                   bool
		want                     int
	}{
		"not joined":                  {"", "", "", false, 0},
		"alone":                       {"", "x", "", false, 0},
		"member with its data":        {"ab", "abx", "", true, 0},
		"all others are there":        {"AB", "abx", "", false, 0},
		"one of them is pulled":       {"AB", "abx", "a", false, 0},
		"one is down":                 {"Ab", "abx", "", false, 1},
		"one is down and was pulled":  {"Ab", "abx", "b", false, 0},
		"one is not synced":           {"A(B)", "abx", "", false, 1},
		"both are down":               {"ab", "abx", "", false, 2},
		"learner, one is down":        {"ABc", "abc", "", false, 0},
		"learner, two are down":       {"Abc", "abc", "a", false, 1},
		"the roster to be needs more": {"ABcd", "ab abcdx", "ab", false, 1},
	} {
		if got := awaited(viewOf(row.members, row.rosters), row.marked, in(row.pulled)); got != row.want {
			t.Errorf("%s: got %d, want %d", name, got, row.want)
		}
		if row.want > 0 && caughtUp(viewOf(row.members, row.rosters), row.marked, false, in(row.pulled)) {
			t.Errorf("%s: it waits, and is synced", name)
		}
	}
}

func TestAcceptedLossTakesAllLiveSyncedMembersHoweverFew(t *testing.T) {
	for name, row := range map[string]struct {
		members, rosters, pulled string
		want                     bool
	}{
		"not joined":                     {"", "", "", false},
		"others are gone":                {"ab", "abx", "", true},
		"one is left":                    {"Abcd", "abcdx", "", false},
		"one is left and pulled":         {"Abcd", "abcdx", "a", true},
		"one of two is pulled":           {"ABcd", "abcdx", "a", false},
		"all others are as blank as it":  {"(AB)", "abx", "", true},
		"learner, the majority is gone":  {"Abc", "abc", "a", true},
		"a roster to be has one more":    {"AB", "ax abx", "a", false},
		"who is down was pulled already": {"aB", "abx", "a", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := caughtUp(viewOf(row.members, row.rosters), false, true, in(row.pulled)); got != row.want {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

// The second implementation asks what the rule is for: it tries all majorities that may have
// acknowledged a write, and looks whether each has one of those that were pulled from.
func TestSyncedNodeHasPulledFromEveryMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := "abcdefx"[7-rapid.IntRange(1, 7).Draw(t, "n"):]
		var members, pulled string
		for _, id := range strings.TrimSuffix(ids, "x") {
			live, synced := rapid.Bool().Draw(t, "live"), rapid.Bool().Draw(t, "synced")
			if live {
				id = unicode.ToUpper(id)
			}
			if synced {
				members += string(id)
			} else {
				members += "(" + string(id) + ")"
			}
			if rapid.Bool().Draw(t, "pulled") {
				pulled += strings.ToLower(string(id))
			}
		}
		rosters := ids
		if rapid.Bool().Draw(t, "learner") && len(ids) > 1 {
			rosters = strings.TrimSuffix(ids, "x")
		}
		if rapid.Bool().Draw(t, "another roster") && len(rosters) > 1 {
			rosters += " " + rosters[1:]
		}
		view, has := viewOf(members, rosters), in(pulled)
		marked := rapid.Bool().Draw(t, "marked")
		want := true
		for _, roster := range view.Rosters {
			for subset := range 1 << len(roster) {
				size, reached := 0, false
				for i, id := range roster {
					if subset&(1<<i) != 0 {
						size++
						reached = reached || id != "x" && has(id)
					}
				}
				want = want && (reached || 2*size <= len(roster))
			}
			for _, m := range view.Members {
				want = want && (m.ID == "x" || !slices.Contains(roster, m.ID) || !m.Live || !m.Synced || has(m.ID))
			}
		}
		if first := view.Rosters[0]; slices.Contains(first, "x") {
			want = want || marked || slices.Equal(first, []string{"x"})
		}
		if got := caughtUp(view, marked, false, has); got != want {
			t.Fatalf("members %s, rosters %s, pulled %q, marked %v: got %v, want %v", members, rosters, pulled, marked, got, want)
		}
	})
}
