//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/protocol7/snakes/node/client/load"
)

const (
	// step is how finely faults are looked at.
	step = 100 * time.Millisecond
	// grace is how long after a fault the clients may notice it.
	grace = time.Second
	// slowness is by how much a slow node is late.
	slowness = 500 * time.Millisecond
	// frozen is how long a laptop sleeps, and resumed how long it may take to go on as before.
	frozen  = 6 * time.Second
	resumed = 1500 * time.Millisecond
)

// moment is a step of a load, at the time since the load was first looked at.
type moment struct {
	at time.Duration
	load.Result
}

// faultRun is a load before and during a fault.
type faultRun struct {
	op       load.Op
	fault    string
	healthy  load.Result // before it
	after    load.Result // from grace after it
	failures load.Result // all of it from the fault on
	began    time.Duration
	timeline []moment
}

// stepper runs a load and looks at it step by step. It is of one goroutine.
type stepper struct {
	load     *load.Load
	begun    time.Time
	timeline []moment
}

// run goes on for d and returns what came of it.
func (s *stepper) run(ctx context.Context, d time.Duration) (load.Result, error) {
	var sum load.Result
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := pause(ctx, min(step, time.Until(end))); err != nil {
			return sum, err
		}
		window := s.load.Cut()
		s.timeline = append(s.timeline, moment{time.Since(s.begun), window})
		sum.Add(window)
	}
	return sum, nil
}

// faults measures what clients of two nodes see of faults of the third, and clients of all of a machine that sleeps.
func (b *bench) faults(ctx context.Context, binary string, ops []load.Op) ([]faultRun, *faultRun, error) {
	dir := filepath.Join(b.dir, "faults")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, err
	}
	ports, err := freePorts(nodes + 1) // newSnakes will take the first of them
	if err != nil {
		return nil, nil, err
	}
	behind := loopback(ports[nodes])
	s, err := newSnakes(binary, dir, map[int][]string{nodes - 1: {"--advertise", behind}})
	if err != nil {
		return nil, nil, err
	}
	relay, err := newRelay(behind, s.servers[nodes-1][len("http://"):])
	if err != nil {
		return nil, nil, fmt.Errorf("relay: %w", err)
	}
	defer relay.close()
	defer s.close()
	if err := s.start(ctx); err != nil {
		return nil, nil, err
	}
	if err := b.fill(ctx, s, faultPrefix, 0, b.faultKeys(), baseSize); err != nil {
		return nil, nil, err
	}
	last := nodes - 1
	var runs []faultRun
	for _, op := range ops {
		for _, fault := range []struct {
			name         string
			inject, undo func() error
		}{
			{
				"killed",
				func() error { s.kill(last); return nil },
				func() error { return s.restart(last) },
			},
			{
				"frozen",
				func() error { return s.processes[last].signal(syscall.SIGSTOP) },
				func() error { return s.processes[last].signal(syscall.SIGCONT) },
			},
			{
				"500 ms slow",
				func() error { relay.delay.Store(int64(slowness)); return nil },
				func() error { relay.delay.Store(0); return nil },
			},
		} {
			run, err := b.fault(ctx, s, op, fault.inject, fault.undo)
			if err != nil {
				return nil, nil, fmt.Errorf("one of three %s: %w", fault.name, err)
			}
			run.fault = fault.name
			b.say("%-44s %-7s %9.0f/s before, %.0f/s from one second after; p99 %v, %v; %s", op.String()+" quorum, one "+fault.name, s.name,
				run.healthy.Throughput(), run.after.Throughput(), run.healthy.Quantile(0.99), run.after.Quantile(0.99), run.failures.Reasons())
			runs = append(runs, run)
		}
	}
	sleep, err := b.sleep(ctx, s)
	return runs, sleep, err
}

const faultPrefix = "faultx"

// fault runs a load on all nodes but the last through a fault, undoes it, and waits until the cluster is well again.
func (b *bench) fault(ctx context.Context, s *system, op load.Op, inject, undo func() error) (run faultRun, err error) {
	l, err := load.Start(ctx, load.Config{
		Servers: s.servers[:nodes-1], Format: s.format("quorum", "quorum"), Op: op, Prefix: faultPrefix,
		Keys: load.Uniform(b.faultKeys()), Value: load.Value(baseSize), Connections: baseConnections,
	})
	if err != nil {
		return run, err
	}
	defer l.Stop()
	if err := pause(ctx, b.warmup); err != nil {
		return run, err
	}
	l.Cut()
	steps := &stepper{load: l, begun: time.Now()}
	run.op = op
	if run.healthy, err = steps.run(ctx, b.duration); err != nil {
		return run, err
	}
	run.began = time.Since(steps.begun)
	if err := inject(); err != nil {
		return run, err
	}
	first, err := steps.run(ctx, grace)
	if err != nil {
		return run, err
	}
	if run.after, err = steps.run(ctx, b.duration); err != nil {
		return run, err
	}
	run.failures.Add(first)
	run.failures.Add(run.after)
	run.timeline = steps.timeline
	l.Stop()
	if err := undo(); err != nil {
		return run, err
	}
	if err := s.awaitReady(ctx); err != nil {
		return run, err
	}
	return run, awaitSameDigests(ctx, s, startLimit)
}

// sleep freezes all nodes, as a laptop does whose lid is closed, and resumes them under a load of mixed requests at the
// default levels.
func (b *bench) sleep(ctx context.Context, s *system) (*faultRun, error) {
	l, err := load.Start(ctx, load.Config{
		Servers: s.servers, Format: s.format("", ""), Op: load.Mix, Prefix: faultPrefix,
		Keys: load.Uniform(b.faultKeys()), Value: load.Value(baseSize), Connections: baseConnections, Timeout: 5 * frozen,
	})
	if err != nil {
		return nil, err
	}
	defer l.Stop()
	if err := pause(ctx, b.warmup); err != nil {
		return nil, err
	}
	l.Cut()
	steps := &stepper{load: l, begun: time.Now()}
	run := &faultRun{op: load.Mix, fault: "all frozen"}
	if run.healthy, err = steps.run(ctx, b.duration); err != nil {
		return nil, err
	}
	run.began = time.Since(steps.begun)
	if err := signalAll(s, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	if _, err = steps.run(ctx, frozen); err != nil {
		return nil, err
	}
	if err := signalAll(s, syscall.SIGCONT); err != nil {
		return nil, err
	}
	if run.failures, err = steps.run(ctx, resumed); err != nil {
		return nil, err
	}
	if run.after, err = steps.run(ctx, max(b.duration, 3*time.Second)); err != nil {
		return nil, err
	}
	run.timeline = steps.timeline
	b.say("%-44s %-7s failed until 1.5 s after: %d, later: %d", "MIX, all three frozen for 6 s", s.name, run.failures.Failures(), run.after.Failures())
	return run, nil
}

func signalAll(s *system, signal syscall.Signal) error {
	for _, p := range s.processes {
		if err := p.signal(signal); err != nil {
			return err
		}
	}
	return nil
}

// faultKeys is how many keys the loads share: enough that they seldom meet on one.
func (b *bench) faultKeys() uint64 { return uint64(min(b.keys, 10_000)) }
