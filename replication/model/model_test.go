package model

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
)

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", checks) // the command line is read later, and wins
	_ = flag.Set("rapid.nofailfile", "true")
	goleak.VerifyTestMain(m)
}

var programs = flag.Int("programs", 0, "how many random programs to run in addition, without and with each mutant")

// outcome is what is wrong in the end, and how much happened.
type outcome struct {
	err   error
	stats stats
}

// stats counts what happened, so that a test can tell that it tested something.
type stats struct {
	Puts, Deletes, Gets, Failures int
	Pulls, Failed, Incomplete     uint64
	Rosters, Relapses, Collected  int
}

func (s *stats) add(other stats) {
	s.Puts += other.Puts
	s.Deletes += other.Deletes
	s.Gets += other.Gets
	s.Failures += other.Failures
	s.Pulls += other.Pulls
	s.Failed += other.Failed
	s.Incomplete += other.Incomplete
	s.Rosters += other.Rosters
	s.Relapses += other.Relapses
	s.Collected += other.Collected
}

const (
	// settling is how long it may take after all faults have ended until all nodes are members and
	// equal: longer than any pause after a failure.
	settling = 2 * time.Minute
	// collecting is how long it may take then until no tombstone is left: the rest of a round in
	// which a tombstone was not stable yet, a round, and one more for what a read brought back.
	collecting = 4 * minAge
)

// run runs a program.
func run(p program, with mutant) outcome {
	w := newWorld(p, with)
	done := make(chan struct{})
	w.background.Go(func() { w.gossip(done) })
	var clients sync.WaitGroup
	var mu sync.Mutex
	var total stats
	for i, s := range p.steps {
		time.Sleep(s.after)
		w.unfounded()
		if s.what > get {
			w.do(s)
			continue
		}
		if node := w.at(s.a); node != nil {
			clients.Go(func() {
				err := node.client(i, s)
				mu.Lock()
				defer mu.Unlock()
				total.count(s, err)
			})
		}
	}
	w.heal()
	clients.Wait()
	err := w.unsettled()
	for end := time.Now().Add(settling); err != nil && w.verdict() == nil && time.Now().Before(end); err = w.unsettled() {
		w.forgetLearners()
		time.Sleep(time.Second)
	}
	for end := time.Now().Add(collecting); err == nil && w.verdict() == nil; time.Sleep(time.Second) {
		if err = w.uncollected(); err == nil {
			break
		}
		if time.Now().Before(end) {
			err = nil
		}
	}
	w.unfounded()
	close(done)
	for _, p := range w.all() {
		pulled := p.syncer.Stats()
		total.Pulls, total.Failed, total.Incomplete = total.Pulls+pulled.Complete, total.Failed+pulled.Failed, total.Incomplete+pulled.Incomplete
	}
	w.end()
	total.Rosters, total.Relapses, total.Collected = len(w.rosters), w.relapses, w.collected
	return outcome{cmp.Or(w.verdict(), err), total}
}

func (s *stats) count(of step, err error) {
	switch of.what {
	case put:
		s.Puts++
	case remove:
		s.Deletes++
	case get:
		s.Gets++
	}
	if err != nil {
		s.Failures++
	}
}

// at returns the process on a machine, nil if there is none.
func (w *world) at(machine int) *process {
	m := w.machines[machines[machine:machine+1]]
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	return m.process
}

// client is one request, number i of the program.
func (p *process) client(i int, s step) error {
	w, ctx := p.w, context.Background()
	what := fmt.Sprintf("%v %s at %v by %s", s.what, s.key, s.level, w.called(p.id))
	if s.what == get {
		w.mu.Lock()
		before, began := len(w.promises), time.Now()
		w.mu.Unlock()
		record, receipt, err := p.coordinator.Get(ctx, s.key, s.level)
		if err != nil && !errors.Is(err, replication.ErrNotFound) || p.hasEnded() {
			return errors.Join(err, errRefused)
		}
		if err == nil {
			w.whole(record, what)
		}
		if s.level != replication.LevelOne {
			w.seesAll(s.key, receipt.Version, began, before, what)
			if !receipt.Version.IsZero() {
				// Those that took part have it by now.
				w.promised(promise{key: s.key, version: receipt.Version, quorum: true, majority: replication.Majority(receipt.N), what: what}, receipt.Acks)
			}
		}
		return nil
	}
	var receipt replication.Receipt
	var err error
	if s.what == put {
		receipt, err = p.coordinator.Put(ctx, s.key, fmt.Append(nil, "value ", i), "", s.level)
	} else {
		receipt, err = p.coordinator.Delete(ctx, s.key, s.level)
	}
	if err != nil || p.hasEnded() {
		return errors.Join(err, errRefused)
	}
	w.promised(promise{
		key: s.key, version: receipt.Version, quorum: s.level != replication.LevelOne,
		majority: replication.Majority(receipt.N), what: what,
	}, receipt.Acks)
	return nil
}

// bubble returns f as a function that runs it in a synctest bubble, each time in the same one: a
// process that uses the race detector has room for a few thousand bubbles only (golang/go issue
// 78156). What f is given and returns must come from outside and stay alive outside, and all
// that it started must have ended when it returns.
func bubble[In, Out any](t *testing.T, f func(In) Out) func(In) Out {
	ins, outs := make(chan In), make(chan Out)
	var running sync.WaitGroup
	running.Go(func() {
		defer close(outs)
		synctest.Test(t, func(t *testing.T) {
			for in := range ins {
				outs <- f(in)
			}
		})
	})
	t.Cleanup(func() { close(ins); running.Wait() })
	return func(in In) Out {
		ins <- in
		out, ok := <-outs
		if !ok {
			t.Fatal("the bubble has ended")
		}
		return out
	}
}

// evenly draws numbers from 0 to below n, none rarer than others: rapid's own prefer small ones.
func evenly(rt *rapid.T) func(n int) int {
	return func(n int) int {
		bits := rapid.SliceOfN(rapid.Bool(), bits.Len(uint(n-1)), bits.Len(uint(n-1))).Draw(rt, "bits")
		x := 0
		for _, bit := range bits {
			if x *= 2; bit {
				x++
			}
		}
		return x % n
	}
}

func TestInvariantsHoldWhateverHappens(t *testing.T) {
	inBubble := bubble(t, func(p program) outcome { return run(p, mutant{}) })
	var total stats
	steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step { return everything.step(evenly(rt)) }), 20, 60)
	rapid.Check(t, func(rt *rapid.T) {
		draw := evenly(rt)
		p := program{members: everything.draw(draw), seed: uint64(draw(1 << 20)), steps: steps.Draw(rt, "steps")}
		out := inBubble(p)
		if out.err != nil {
			rt.Fatalf("%v\n%v", out.err, p)
		}
		total.add(out.stats)
	})
	t.Logf("%+v", total)
}

// TestInvariantsHoldInManyPrograms runs as many programs as asked for.
func TestInvariantsHoldInManyPrograms(t *testing.T) {
	if *programs == 0 {
		t.Skip("give -programs=6000 or so")
	}
	inBubble := bubble(t, func(p program) outcome { return run(p, mutant{}) })
	var total stats
	failed := 0
	for seed := range uint64(*programs) {
		p := newProgram(rand.New(rand.NewPCG(seed, 0)).IntN, *mixes[seed%uint64(len(mixes))])
		out := inBubble(p)
		total.add(out.stats)
		if out.err != nil {
			failed++
			t.Errorf("program %d: %v\n%v", seed, out.err, p)
		}
		if failed == 3 {
			break
		}
	}
	t.Logf("%+v", total)
}
