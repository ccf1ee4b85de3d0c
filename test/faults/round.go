package faults

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

const (
	// recoveryLimit is how long after the end of a fault all nodes may take to be ready and to have the same.
	recoveryLimit = 15 * time.Second
	// settleLimit is how long rounds wait for that at most, so that a slow recovery is told from none.
	settleLimit = 40 * time.Second
	// linearLimit is how long one key's operations may take to be ordered.
	linearLimit = 5 * time.Second
	// members is how many nodes a subject has.
	members = 3
)

// fault is one way to hurt a cluster.
type fault struct {
	name    string
	network cluster.Network
	// clocks: the clocks of the nodes can be set.
	clocks bool
	// args are added to the command lines of all nodes.
	args []string
	// needs returns what this machine lacks for it; nil: nothing is needed.
	needs func() error
	// mount has more options of the disks, if the nodes have their own.
	mount string
	// prepare changes the nodes before they start; its error is what this machine lacks. nil: nothing is to be done.
	prepare func(s *subject, mount string) error
	// hold is how long it lasts, at least and at most.
	hold [2]time.Duration
	// inject hurts the subject. What it draws comes from random.
	inject func(s *subject, random *rand.Rand) injury
}

// injury is a fault that has begun.
type injury struct {
	victims  []int  // nodes whose clients may be refused
	outvoted []int  // nodes that reach no majority from now on until heal
	diskLost bool   // a node has lost what was on its disk
	doubtful bool   // what victims said from its begin to its end counts as not said
	heal     func() // ends it; processes run again when it returns
	what     string // it did, for messages
}

// report is what came of one round.
type report struct {
	seed       uint64
	what       string
	operations int
	wrong      []string
	// window is the longest time in which no request with default levels was answered well at a node that was not hit, and
	// failed how many of these were not answered well at all.
	window time.Duration
	failed int
	// recovery is the time from the end of the fault until all nodes were ready and had the same.
	recovery  time.Duration
	undecided int      // keys whose order took too long to find
	twice     []string // counter-examples that need a write that showed under two versions
	history   *history
}

// round hurts the subject under load, heals it and checks all that clients saw.
func (s *subject) round(f fault, seed uint64) report {
	random := rand.New(rand.NewPCG(seed, 1))
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(random.Int64N(int64(most-least)+1))
	}
	s.rounds++
	h := newHistory()
	load := &clients{history: h, nodes: s.nodes, round: fmt.Sprintf("r%d", s.rounds), plain: s.plain, mixed: s.mixed, seed: seed}
	s.load = load
	load.prepare()
	load.start()
	time.Sleep(between(200*time.Millisecond, 500*time.Millisecond))

	hit := h.now()
	wound := f.inject(s, random)
	hurt := h.now()
	stopWatching := s.watch(h, wound)
	var deletes sync.WaitGroup
	deletes.Go(func() { load.deleteOnce(s.spared(wound.victims)) })
	time.Sleep(between(f.hold[0], f.hold[1]))
	deletes.Wait()
	healing := h.now()
	stopWatching()
	wound.heal()
	healed, whole := time.Now(), h.now()
	time.Sleep(between(200*time.Millisecond, 400*time.Millisecond))
	load.stop()

	if wound.doubtful {
		h.doubt(wound.victims, period{hit, whole})
	}
	r := report{seed: seed, what: wound.what, operations: len(h.operations), history: h}
	settled, err := s.settleIn(settleLimit)
	r.recovery = settled.Sub(healed)
	if err != nil {
		r.wrong = append(r.wrong, fmt.Sprintf("not recovered %v after the end of the fault: %v", r.recovery.Round(time.Millisecond), err))
		return r
	}
	if r.recovery > recoveryLimit {
		r.wrong = append(r.wrong, fmt.Sprintf("recovered %v after the end of the fault, want %v", r.recovery.Round(time.Millisecond), recoveryLimit))
	}
	c := circumstances{victims: wound.victims, outvoted: map[int]period{}, diskLost: wound.diskLost}
	for _, node := range wound.outvoted {
		c.outvoted[node] = period{hurt, healing}
	}
	s.judge(&r, c, load.round)
	plain := slices.DeleteFunc(slices.Clone(h.operations), func(o operation) bool {
		return o.Setting != "d" || slices.Contains(wound.victims, o.Node)
	})
	r.window, r.failed = window(plain, period{hit, healing}), failures(plain)
	return r
}

// spared returns the nodes that are no victims.
func (s *subject) spared(victims []int) []int {
	return slices.DeleteFunc(everyone(s), func(i int) bool { return slices.Contains(victims, i) })
}

// judge checks what clients saw and what there is in the end.
func (s *subject) judge(r *report, c circumstances, prefix string) {
	has, err := s.scan()
	if err != nil {
		r.wrong = append(r.wrong, err.Error())
		return
	}
	if c.final, err = s.values(has, prefix); err != nil {
		r.wrong = append(r.wrong, err.Error())
	}
	r.wrong = append(r.wrong, r.history.remarks...)
	if asides := s.countAsides(); asides > s.asides && !c.diskLost {
		r.wrong = append(r.wrong, "a node set its data aside, since it lacks what it told others, and no disk was lost")
	} else {
		s.asides = asides
	}
	r.wrong = append(r.wrong, s.remember(has, r.history.operations)...)
	r.wrong = append(r.wrong, check(r.history.operations, c)...)
	for letter, setting := range settings {
		if setting.quorate {
			found := orderOf(r.history.operations, letter, linearLimit)
			r.wrong, r.twice, r.undecided = append(r.wrong, found.wrong...), append(r.twice, found.twice...), r.undecided+found.undecided
		}
	}
}

// watch asks the nodes that were not hit how many members there should be, which no fault changes (I8).
func (s *subject) watch(h *history, wound injury) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				return
			case <-time.After(200 * time.Millisecond):
			}
			for i, n := range s.Nodes() {
				if slices.Contains(wound.victims, i) {
					continue
				}
				m, err := n.Members()
				if err == nil && m.Known != len(s.nodes) {
					h.remark("%s counts %d members, want %d", n, m.Known, len(s.nodes))
				}
			}
		}
	}()
	return func() { close(end); <-done }
}

// window returns the longest time within p without a good answer to a write, or to a read, at any of the nodes that were asked.
func window(operations []operation, p period) time.Duration {
	type line struct {
		node  int
		reads bool
	}
	var longest time.Duration
	last := map[line]time.Duration{}
	slices.SortFunc(operations, func(a, b operation) int { return cmp.Compare(a.End, b.End) })
	for _, o := range operations {
		at := line{o.Node, o.Kind == get}
		if _, begun := last[at]; !begun {
			last[at] = p.from
		}
		if o.answered() && last[at] < p.to {
			longest = max(longest, o.End-max(last[at], p.from))
			last[at] = o.End
		}
	}
	for _, end := range last {
		longest = max(longest, p.to-max(end, p.from))
	}
	return longest
}

// failures counts the requests that were neither answered well nor meant to be refused.
func failures(operations []operation) (n int) {
	for _, o := range operations {
		if o.Outcome == unknown || o.Outcome == refused && o.Status >= 500 && o.Status != http.StatusNotImplemented {
			n++
		}
	}
	return n
}
