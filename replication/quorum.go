package replication

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Level is how many replicas must take part in a request: a count of 1 or more, or one of the
// constants. A count above the number of members means all of them.
type Level int

const (
	// LevelDefault is 3 (the majority from six members on), lowered to the number of members
	// that are live, for reads live and synced, but never below the majority.
	LevelDefault Level = 0
	// LevelOne is one replica.
	LevelOne Level = 1
	// LevelQuorum is the majority of the members that should exist.
	LevelQuorum Level = -1
	// LevelAll is all the members that should exist.
	LevelAll Level = -2
)

// ErrBadLevel is wrapped by ParseLevel's errors.
var ErrBadLevel = errors.New("bad level")

const maxLevelDigits = 9

// ParseLevel reads "one", "quorum", "all", or a count of at least 1 in up to 9 decimal digits.
// Nothing else is a level, the empty string included: who was given none uses LevelDefault.
func ParseLevel(s string) (Level, error) {
	switch s {
	case "one":
		return LevelOne, nil
	case "quorum":
		return LevelQuorum, nil
	case "all":
		return LevelAll, nil
	}
	notDigit := func(c rune) bool { return c < '0' || c > '9' }
	if len(s) <= maxLevelDigits && !slices.ContainsFunc([]rune(s), notDigit) {
		if n, err := strconv.Atoi(s); err == nil && n >= 1 {
			return Level(n), nil
		}
	}
	return 0, fmt.Errorf("%w: %.20q is neither one, quorum, all nor a number from 1 on in up to %d digits",
		ErrBadLevel, s, maxLevelDigits)
}

// String returns "default", "quorum", "all" or the count.
func (l Level) String() string {
	switch l {
	case LevelDefault:
		return "default"
	case LevelQuorum:
		return "quorum"
	case LevelAll:
		return "all"
	}
	return strconv.Itoa(int(l))
}

// Majority returns the smallest number of n members of which any two sets share a member.
func Majority(n int) int { return n/2 + 1 }

// need returns how many of n members must take part, live of which can.
func (l Level) need(n, live int) int {
	switch l {
	case LevelDefault:
		return max(Majority(n), min(3, n, live))
	case LevelQuorum:
		return Majority(n)
	case LevelAll:
		return n
	}
	return min(int(l), n)
}

// verdict is what one request makes of one replica.
type verdict uint8

const (
	unasked    verdict = iota // was not asked, so cannot have answered
	open                      // was asked and is expected to answer
	silent                    // was asked and has been silent for too long, but may answer yet
	acked                     // took part
	superseded                // answered that it has something newer, which is no acknowledgement
	failed                    // will not take part: no answer, nonsense, or it could not
)

// outlook is how a request stands, from worst to best.
type outlook uint8

const (
	hopeless outlook = iota // the level cannot be met any more
	doubtful                // it takes replicas that are silent
	hopeful                 // replicas that are expected to answer can meet it
	met
)

// quorum is the rule that decides when enough replicas took part. It is a pure value: what a
// View says about the replicas, and a level asked of them.
//
// While a change of the roster is under way there are several rosters, and a level is met
// only if it is met in each of them: two sides of a split cannot both pass, even if they know
// different rosters as the one in force (invariant I7).
type quorum struct {
	view  *View
	level Level
	read  bool
}

// ready returns nil, or an error that wraps ErrBadLevel, or ErrNotReady: a node that has not
// joined serves level one alone.
func (q quorum) ready() error {
	if q.level < LevelAll {
		return fmt.Errorf("%w: %d", ErrBadLevel, int(q.level))
	}
	if q.joining() && q.level != LevelOne {
		return fmt.Errorf("%w: it has not joined a cluster yet, and serves level one alone, from itself", ErrNotReady)
	}
	return nil
}

func (q quorum) joining() bool { return len(q.view.Rosters) == 0 }

// rosters returns the sets in each of which the level must be met: the one in force first.
func (q quorum) rosters() [][]string {
	if q.joining() {
		return [][]string{{q.view.Self}}
	}
	return q.view.Rosters
}

// usable reports whether the member can be asked: it is live, and for reads synced. A node
// that is joining can ask itself, and so can a member that nobody else is there to ask, if all
// that is wanted is what one node has.
func (q quorum) usable(m Member) bool {
	if m.ID == q.view.Self && (q.joining() || q.level == LevelOne && q.alone()) {
		return true
	}
	return m.Live && (m.Synced || !q.read)
}

// alone reports whether this node is a member and no other member is live.
func (q quorum) alone() bool {
	return q.counts(q.view.Self) && !slices.ContainsFunc(q.view.Members, func(m Member) bool {
		return m.Live && m.ID != q.view.Self && q.counts(m.ID)
	})
}

// counts reports whether an answer of the node with this id counts for anything: learners are
// in no roster.
func (q quorum) counts(id string) bool {
	return slices.ContainsFunc(q.rosters(), func(roster []string) bool {
		_, in := slices.BinarySearch(roster, id)
		return in
	})
}

// weigh returns how a request stands: in the roster where it stands worst.
func (q quorum) weigh(of func(id string) verdict) outlook {
	worst := met
	for _, roster := range q.rosters() {
		worst = min(worst, q.tally(roster, of).outlook())
	}
	return worst
}

// tally counts the verdicts in one roster.
func (q quorum) tally(roster []string, of func(id string) verdict) tally {
	t := tally{known: len(roster)}
	taking := 0
	for _, id := range roster {
		v := of(id)
		switch v {
		case acked:
			t.acks++
		case open:
			t.open++
		case silent:
			t.silent++
		}
		if m, known := q.view.Member(id); known && q.usable(m) {
			t.alive++
			// A member that came back after a write was sent was not asked and will not be: the
			// write must not fail for want of it. A read can still ask it.
			if v != failed && v != silent && (q.read || v != unasked) {
				taking++
			}
		}
	}
	t.need = q.level.need(len(roster), taking)
	return t
}

// tally is a request in numbers, within one roster.
type tally struct {
	known, alive, need int
	acks, open, silent int
}

func (t tally) outlook() outlook {
	switch {
	case t.acks >= t.need:
		return met
	case t.acks+t.open >= t.need:
		return hopeful
	case t.acks+t.open+t.silent >= t.need:
		return doubtful
	}
	return hopeless
}
