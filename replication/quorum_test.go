package replication

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A picture has one character per replica; the replicas are called a, b, c, ... in order.
//
//   - acknowledged        ? asked, expected to answer     ~ asked and silent
//     < superseded          ! failed, though live           - live, not asked
//     . not live            n live, not synced
func picture(level Level, read bool, replicas string, rosters ...string) (quorum, func(id string) verdict) {
	view := &View{Self: "a"}
	var everybody []string
	for i, c := range replicas {
		id := string(rune('a' + i))
		everybody = append(everybody, id)
		view.Members = append(view.Members, Member{ID: id, Name: "node-" + id, Live: c != '.', Synced: c != 'n'})
	}
	for _, roster := range rosters {
		view.Rosters = append(view.Rosters, strings.Split(roster, ""))
	}
	if len(rosters) == 0 {
		view.Rosters = [][]string{everybody}
	}
	verdicts := map[byte]verdict{'+': acked, '?': open, '~': silent, '<': superseded, '!': failed}
	return quorum{view: view, level: level, read: read}, func(id string) verdict {
		if i := int(id[0] - 'a'); i < len(replicas) {
			return verdicts[replicas[i]]
		}
		return unasked
	}
}

func TestOutlookOfPictures(t *testing.T) {
	for _, row := range []struct {
		level    Level
		replicas string
		rosters  []string
		want     outlook
	}{
		{LevelOne, "+??", nil, met},
		{LevelOne, "???", nil, hopeful},
		{LevelOne, "!!~", nil, doubtful},
		{LevelOne, "!!<", nil, hopeless},

		{LevelQuorum, "++?", nil, met},
		{LevelQuorum, "+?.", nil, hopeful},
		{LevelQuorum, "+~.", nil, doubtful},
		{LevelQuorum, "+..", nil, hopeless},
		{LevelQuorum, "+<!", nil, hopeless},
		{LevelQuorum, "++...", nil, hopeless},
		{LevelQuorum, "+++...", nil, hopeless},

		{LevelAll, "+++", nil, met},
		{LevelAll, "++?", nil, hopeful},
		{LevelAll, "++.", nil, hopeless},
		{4, "+++", nil, met},
		{4, "++?", nil, hopeful},
		{4, "+++..", nil, hopeless},

		// Three of three; who does not answer, by whatever evidence, lowers that to two.
		{LevelDefault, "+++", nil, met},
		{LevelDefault, "++?", nil, hopeful},
		{LevelDefault, "++.", nil, met},
		{LevelDefault, "++!", nil, met},
		{LevelDefault, "++~", nil, met},
		{LevelDefault, "+?~", nil, hopeful},
		{LevelDefault, "++<", nil, hopeless}, // it lives, so it is not lowered
		{LevelDefault, "+..", nil, hopeless}, // never below the majority
		{LevelDefault, "+~~", nil, doubtful}, // but waited for, as any level
		{LevelDefault, "+", nil, met},
		{LevelDefault, "+.", nil, hopeless},
		{LevelDefault, "+++????", nil, hopeful}, // from six on, the majority: four of seven
		{LevelDefault, "++++???", nil, met},
		{LevelDefault, "++++...", nil, met},
		{LevelDefault, "+++--", nil, met},

		// Learners count for nothing, even if they alone acknowledge.
		{LevelQuorum, "?.++", []string{"ab"}, hopeless},
		{LevelOne, "?.++", []string{"ab"}, hopeful},

		// While a roster changes a level must be met in the old one and in the new one.
		{LevelQuorum, "++??", []string{"abc", "abcd"}, hopeful},
		{LevelQuorum, "+++?", []string{"abc", "abcd"}, met},
		{LevelQuorum, "++?+", []string{"abc", "abcd"}, met},
		{LevelQuorum, "++...", []string{"abc", "cde"}, hopeless},
		{LevelOne, "+???", []string{"abc", "d"}, hopeful},
		{LevelDefault, "+++-", []string{"abc", "abcd"}, met},
		{LevelDefault, "++.-", []string{"abc", "abcd"}, hopeless},
		{LevelAll, "+++", []string{"abc", "abcd"}, hopeless}, // d turned up later
	} {
		q, of := picture(row.level, false, row.replicas, row.rosters...)
		if got := q.weigh(of); got != row.want {
			t.Errorf("%s of %s in %v: got outlook %d, want %d", row.level, row.replicas, row.rosters, got, row.want)
		}
	}
}

func TestDefaultReadsCountOnTheSyncedAlone(t *testing.T) {
	for _, row := range []struct {
		replicas string
		want     int
	}{{"---", 3}, {"--n", 2}, {"-nn", 2}, {"--.", 2}, {"-----", 3}, {"--nnn", 3}, {"-------", 4}} {
		q, of := picture(LevelDefault, true, row.replicas)
		if got := q.tally(q.view.Rosters[0], of); got.need != row.want {
			t.Errorf("need of %s: got %d, want %d", row.replicas, got.need, row.want)
		}
	}
}

// A node that restarted while nobody else is there has compared its data with nobody, so it is not
// synced; what it has it still tells those who ask it alone.
func TestMemberThatIsAloneReadsWhatItHasAtLevelOneOnly(t *testing.T) {
	for _, row := range []struct {
		level    Level
		replicas string
		rosters  []string
		want     outlook
	}{
		{LevelOne, "n..", nil, hopeful},
		{LevelOne, "nn.", nil, hopeless}, // the other one is about to tell
		{LevelQuorum, "n..", nil, hopeless},
		{LevelDefault, "n..", nil, hopeless},
		{LevelOne, "n--", []string{"bc"}, hopeful}, // a learner asks the others
		{LevelOne, "n..", []string{"bc"}, hopeless},
		{LevelOne, "n-..", []string{"acd"}, hopeful}, // a learner is nobody to ask
	} {
		q, _ := picture(row.level, true, row.replicas, row.rosters...)
		of := func(id string) verdict {
			if m, _ := q.view.Member(id); q.usable(m) {
				return open
			}
			return unasked
		}
		if got := q.weigh(of); got != row.want {
			t.Errorf("%s of %s in %v: got outlook %d, want %d", row.level, row.replicas, row.rosters, got, row.want)
		}
	}
}

// dumbNeed says the contract's sentences about levels one after the other.
func dumbNeed(level Level, n, live int) int {
	majority := 0
	for 2*majority <= n {
		majority++
	}
	switch {
	case level == LevelQuorum:
		return majority
	case level == LevelAll:
		return n
	case level >= 1 && int(level) > n:
		return n
	case level >= 1:
		return int(level)
	}
	need := 3
	if n < 3 {
		need = n
	}
	if need < majority {
		need = majority
	}
	for need > live && need > majority {
		need--
	}
	return need
}

// dumbOutlook tries out what would be if the replicas that may still answer did.
func dumbOutlook(q quorum, of func(id string) verdict) outlook {
	passes := func(counting ...verdict) bool {
		for _, roster := range q.view.Rosters {
			live, acks := 0, 0
			for _, id := range roster {
				for _, m := range q.view.Members {
					bad := of(id) == failed || of(id) == silent || of(id) == unasked && !q.read
					if m.ID == id && m.Live && !bad && (m.Synced || !q.read) {
						live++
					}
				}
				if slices.Contains(counting, of(id)) {
					acks++
				}
			}
			if acks < dumbNeed(q.level, len(roster), live) {
				return false
			}
		}
		return true
	}
	switch {
	case passes(acked):
		return met
	case passes(acked, open):
		return hopeful
	case passes(acked, open, silent):
		return doubtful
	}
	return hopeless
}

func drawPicture(t *rapid.T) (quorum, func(id string) verdict, string) {
	replicas := rapid.StringOfN(rapid.RuneFrom([]rune("+?~<!-.n")), 1, 9, -1).Draw(t, "replicas")
	level := rapid.Custom(func(t *rapid.T) Level { return Level(rapid.IntRange(-2, 10).Draw(t, "level")) }).Draw(t, "level")
	rosters := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		members := rapid.SliceOfNDistinct(rapid.RuneFrom([]rune("abcdefghij")), 1, 9, rapid.ID[rune]).Draw(t, "members")
		slices.Sort(members)
		return string(members)
	}), 1, 3).Draw(t, "rosters")
	q, of := picture(level, rapid.Bool().Draw(t, "read"), replicas, rosters...)
	return q, of, fmt.Sprintf("%s of %s in %v, read %v", level, replicas, rosters, q.read)
}

func TestOutlookAgreesWithTheDumbOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, of, text := drawPicture(t)
		if got, want := q.weigh(of), dumbOutlook(q, of); got != want {
			t.Fatalf("%s: got outlook %d, want %d", text, got, want)
		}
	})
}

// Invariant I7: whoever is taken for live on either side, and whichever of two rosters that
// are both possible a side takes for the one in force, the sides share a replica.
func TestNoTwoSidesOfASplitBothPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, _, _ := drawPicture(t)
		q.level = rapid.SampledFrom([]Level{LevelDefault, LevelQuorum, LevelAll}).Draw(t, "level")
		left := rapid.SliceOf(rapid.StringMatching("[a-j]")).Draw(t, "left")
		here := func(id string) verdict {
			if slices.Contains(left, id) {
				return acked
			}
			return failed
		}
		there := func(id string) verdict { return acked - here(id) + failed }
		other := q
		other.view = &View{Self: "a", Rosters: [][]string{rapid.SampledFrom(q.view.Rosters).Draw(t, "roster there")}}
		if q.weigh(here) == met && other.weigh(there) == met {
			t.Fatalf("%s and the rest both pass %s in %v and %v", left, q.level, q.view.Rosters, other.view.Rosters)
		}
	})
}

func TestANodeThatHasNotJoinedServesLevelOneFromItself(t *testing.T) {
	for _, read := range []bool{false, true} {
		q := quorum{view: &View{Self: "a", Members: []Member{{ID: "a", Live: true}}}, level: LevelOne, read: read}
		if err := q.ready(); err != nil {
			t.Errorf("level one: got %v, want none", err)
		}
		if got := q.weigh(func(string) verdict { return acked }); got != met {
			t.Errorf("own acknowledgement: got outlook %d, want met", got)
		}
		for _, level := range []Level{LevelDefault, LevelQuorum, LevelAll, 2} {
			q.level = level
			if err := q.ready(); !errors.Is(err, ErrNotReady) {
				t.Errorf("level %s: got %v, want ErrNotReady", level, err)
			}
		}
	}
}

func TestParseLevel(t *testing.T) {
	for s, want := range map[string]Level{
		"one": LevelOne, "quorum": LevelQuorum, "all": LevelAll,
		"1": 1, "4": 4, "007": 7, "999999999": 999999999,
	} {
		if got, err := ParseLevel(s); err != nil || got != want {
			t.Errorf("ParseLevel(%q): got %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "000", "-1", "+1", "1.0", "1 ", "abc", "ONE", "default", "1234567890", "٣", "0x1", "one,all"} {
		if got, err := ParseLevel(s); !errors.Is(err, ErrBadLevel) {
			t.Errorf("ParseLevel(%q): got %d, %v, want ErrBadLevel", s, got, err)
		}
	}
}

func TestParseLevelReadsWhatStringWrites(t *testing.T) {
	for _, level := range []Level{LevelOne, LevelQuorum, LevelAll, 2, 999999999} {
		if got, err := ParseLevel(level.String()); err != nil || got != level {
			t.Errorf("ParseLevel(%q): got %d, %v, want %d", level.String(), got, err, level)
		}
	}
}
