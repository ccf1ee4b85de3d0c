package model

import (
	"cmp"
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
	copied     // what a's disk holds
	restore    // what was copied, to a's disk
	join       // a, which never took part or has left
	leave      // a
	forget     // a, asked of b
	skew       // a's wall clock
	unreadable // key at a, or readable again
	events
)

func (e event) String() string {
	return [...]string{
		"put", "remove", "get", "cut", "isolate", "crash", "stop", "wipe", "copy", "restore", "join", "leave", "forget", "skew", "unreadable",
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

// mix is what programs are made of.
type mix struct {
	of      map[event]int // how often each event happens, in relation to the others
	members int           // at the start; 0 means 3 to 5
	keys    int
	pace    time.Duration // up to which one step follows another
	pauses  int           // every so manieth step follows much later,
	pause   time.Duration // up to this
}

// everything is the mix of ordinary programs.
var everything = mix{
	of: map[event]int{
		put: 12, remove: 8, get: 12, cut: 5, isolate: 3, crash: 6, stop: 2, wipe: 3, copied: 4, restore: 3, join: 3,
		leave: 2, forget: 2, skew: 2, unreadable: 2,
	},
	keys: 4, pace: 1200 * time.Millisecond, pauses: 16, pause: 40 * time.Second,
}

var mixes = []*mix{&everything, &relapsing, &growing, &reading, &deleting, &fleeting, &leaving}

// relapsing is a mix in which disks often lose what they had.
var relapsing = mix{
	of:      map[event]int{put: 10, get: 12, isolate: 6, crash: 8, copied: 2, restore: 8},
	members: 3, keys: 1, pace: 250 * time.Millisecond, pauses: 8, pause: 10 * time.Second,
}

// reading is a mix in which many reads meet writes that reached few nodes.
var reading = mix{
	of:      map[event]int{put: 8, get: 20, isolate: 6, crash: 2},
	members: 3, keys: 1, pace: 150 * time.Millisecond, pauses: 16, pause: 40 * time.Second,
}

// deleting is a mix in which tombstones are collected again and again, while some nodes are away.
var deleting = mix{
	of: map[event]int{
		put: 6, remove: 8, get: 4, cut: 3, isolate: 4, crash: 5, wipe: 2, copied: 2, restore: 2, join: 3, forget: 1, leave: 2, skew: 1,
	},
	keys: 2, pace: 1200 * time.Millisecond, pauses: 8, pause: 150 * time.Second,
}

// fleeting is a mix in which values are deleted right after they were written.
var fleeting = mix{
	of:      map[event]int{put: 8, remove: 8, get: 4, isolate: 2},
	members: 3, keys: 2, pace: 300 * time.Millisecond, pauses: 4, pause: 5 * time.Second,
}

// leaving is a mix in which nodes leave right after they wrote.
var leaving = mix{
	of:      map[event]int{put: 12, isolate: 3, leave: 4, join: 4},
	members: 4, keys: 4, pace: 400 * time.Millisecond, pauses: 16, pause: 40 * time.Second,
}

// growing is a mix in which much happens to the roster, and links are cut.
var growing = mix{
	of:   map[event]int{put: 4, cut: 4, isolate: 8, join: 8, wipe: 4, crash: 4},
	keys: 4, pace: 1200 * time.Millisecond, pauses: 16, pause: 40 * time.Second,
}

var levels = []replication.Level{
	replication.LevelOne, replication.LevelQuorum, replication.LevelQuorum, replication.LevelQuorum, replication.LevelDefault,
	replication.LevelDefault, replication.LevelAll,
}

// newProgram makes a program of choices: draw returns a number from 0 to below n.
func newProgram(draw func(n int) int, of mix) program {
	p := program{members: of.draw(draw), seed: uint64(draw(1 << 20))}
	for range 10 + draw(50) {
		p.steps = append(p.steps, of.step(draw))
	}
	return p
}

// draw returns how many members there are at the start.
func (m mix) draw(draw func(n int) int) int {
	if m.members > 0 {
		return m.members
	}
	return 3 + draw(3)
}

func (m mix) step(draw func(n int) int) step {
	s := step{
		after: time.Duration(draw(int(m.pace.Milliseconds()))) * time.Millisecond,
		what:  m.event(draw),
		a:     draw(cmp.Or(m.members, 5)), b: draw(cmp.Or(m.members, 5)),
		key:     string(rune('k' + draw(m.keys))),
		level:   levels[draw(len(levels))],
		perhaps: draw(3) > 0,
	}
	switch {
	case s.what == join:
		s.a = draw(len(machines))
	case s.what == skew:
		s.skew = time.Duration(draw(4000)-2000) * time.Millisecond
	}
	if draw(m.pauses) == 0 {
		s.after = time.Duration(draw(int(m.pause.Milliseconds()))) * time.Millisecond
	}
	return s
}

func (m mix) event(draw func(n int) int) event {
	total := 0
	for e := range events {
		total += m.of[e]
	}
	n := draw(total)
	for e := range events {
		if n -= m.of[e]; n < 0 {
			return e
		}
	}
	panic("unreachable")
}
