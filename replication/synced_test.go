package replication

import (
	"strings"
	"testing"
)

// A row is a picture: who is in which roster, who is up, and what this node, x, has pulled. In
// members a capital letter is live and synced, a small one is not live, and one in brackets is
// live but not synced.
func TestNodeIsSyncedOnceItHasPulledFromEnoughOthers(t *testing.T) {
	for name, row := range map[string]struct {
		members string
		rosters string // the one in force first; x is this node
		pulled  string
		blank   bool
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
	} {
		t.Run(name, func(t *testing.T) {
			view := &View{Self: "x"}
			synced := true
			for _, c := range row.members {
				switch c {
				case '(', ')':
					synced = c == ')'
				default:
					id := strings.ToLower(string(c))
					view.Members = append(view.Members, Member{ID: id, Live: id != string(c), Synced: synced})
				}
			}
			view.Members = append(view.Members, Member{ID: "x", Live: true})
			for _, roster := range strings.Fields(row.rosters) {
				view.Rosters = append(view.Rosters, strings.Split(roster, ""))
			}
			got := caughtUp(view, !row.blank, false, func(id string) bool { return strings.Contains(row.pulled, id) })
			if got != row.want {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}
