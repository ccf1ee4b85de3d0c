package model

import (
	"fmt"
	"strings"
	"time"

	"github.com/protocol7/snakes/replication"
)

// machines is what nodes run on, and the names of the nodes that do.
const machines = "abcdef"

// A program is what happens to a cluster before all faults end.
type program struct {
	members int    // at the start: the first so many machines
	seed    uint64 // of what the network and the disks do
	steps   []step
}

// step is one event, some time after the one before. What makes no sense when its turn comes is
// left out, such as reading through a machine that is down.
type step struct {
	after   time.Duration
	what    event
	a, b    int // which machines
	key     string
	level   replication.Level
	skew    time.Duration
	perhaps bool // some events come in two kinds
}

type event int

const (
	put event = iota
	remove
	get
	cut        // a from b, or heal all cuts
	isolate    // a from all others, or heal all cuts
	crash      // a, or start what is down
	stop       // a in good order, or start what is down
	wipe       // a: its disk is replaced by an empty one
	join       // a, which never took part or has left
	forget     // a, asked of b
	skew       // a's wall clock
	unreadable // key at a, or readable again
	events
)

func (e event) String() string {
	return [...]string{
		"put", "remove", "get", "cut", "isolate", "crash", "stop", "wipe", "join", "forget", "skew", "unreadable",
	}[e]
}

func (s step) String() string {
	what := fmt.Sprintf("%6v %v %c", s.after, s.what, machines[s.a])
	switch s.what {
	case crash, stop:
		if s.perhaps {
			return what + " or start what is down"
		}
	case isolate:
		if s.perhaps {
			return fmt.Sprintf("%6v heal", s.after)
		}
	case put, remove, get:
		return fmt.Sprintf("%s %s at %v", what, s.key, s.level)
	case cut:
		if s.perhaps {
			return fmt.Sprintf("%6v heal", s.after)
		}
		return fmt.Sprintf("%s %c", what, machines[s.b])
	case forget:
		return fmt.Sprintf("%s %c", what, machines[s.b])
	case skew:
		return fmt.Sprintf("%s by %v", what, s.skew)
	case unreadable:
		return what + " " + s.key
	}
	return what
}

func (p program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "members %s, seed %d\n", machines[:p.members], p.seed)
	for _, s := range p.steps {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// mix is how often each event happens, in relation to the others.
type mix map[event]int

// everything is the mix of ordinary programs.
var everything = mix{
	put: 12, remove: 8, get: 12, cut: 5, isolate: 3, crash: 6, stop: 2, wipe: 3, join: 3, forget: 2, skew: 2, unreadable: 2,
}

var levels = []replication.Level{
	replication.LevelOne, replication.LevelQuorum, replication.LevelQuorum, replication.LevelQuorum, replication.LevelDefault,
	replication.LevelDefault, replication.LevelAll,
}

// newProgram makes a program of choices: draw returns a number from 0 to below n.
func newProgram(draw func(n int) int, of mix) program {
	p := program{members: 3 + draw(3), seed: uint64(draw(1 << 30))}
	for range 10 + draw(50) {
		p.steps = append(p.steps, newStep(draw, of))
	}
	return p
}

func newStep(draw func(n int) int, of mix) step {
	s := step{
		after: time.Duration(draw(1200)) * time.Millisecond,
		what:  of.draw(draw),
		a:     draw(5), b: draw(5),
		key:     string(rune('k' + draw(4))),
		level:   levels[draw(len(levels))],
		perhaps: draw(3) > 0,
	}
	switch {
	case s.what == join:
		s.a = draw(len(machines))
	case s.what == skew:
		s.skew = time.Duration(draw(4000)-2000) * time.Millisecond
	}
	if draw(12) == 0 {
		s.after *= 30 // long enough for much to come to rest
	}
	return s
}

func (m mix) draw(draw func(n int) int) event {
	total := 0
	for e := range events {
		total += m[e]
	}
	n := draw(total)
	for e := range events {
		if n -= m[e]; n < 0 {
			return e
		}
	}
	panic("unreachable")
}
