//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/protocol7/snakes/node/client/load"
)

// sample is what came of a cell on a system, all rounds together.
type sample struct {
	load.Result
	cpu     time.Duration // of the servers
	client  time.Duration // of the load generator, processor time too
	written uint64        // bytes
	stored  uint64        // bytes of values, on all nodes that store them; 0: the cell writes nothing, or nobody counts
	memory  uint64        // bytes, the largest process
	slowest float64       // throughput of the slowest round and the fastest
	fastest float64
}

// add adds another round.
func (s *sample) add(round sample) {
	if s.Elapsed == 0 || round.Throughput() < s.slowest {
		s.slowest = round.Throughput()
	}
	s.fastest = max(s.fastest, round.Throughput())
	s.Add(round.Result)
	s.cpu += round.cpu
	s.client += round.client
	s.written += round.written
	s.stored += round.stored
	s.memory = max(s.memory, round.memory)
}

// each divides a time by the requests that took it.
func (s sample) each(d time.Duration) time.Duration {
	return d / time.Duration(max(1, s.Requests()+s.Failures()))
}

// amplification is bytes written for each byte stored; 0 if the cell writes nothing.
func (s sample) amplification() float64 {
	if s.stored == 0 {
		return 0
	}
	return float64(s.written) / float64(s.stored)
}

// outcome is a cell with its samples by system.
type outcome struct {
	cell    cell
	samples map[string]*sample
}

// work runs the cells on all systems in turns. They are started and have no keys.
func (b *bench) work(ctx context.Context, systems []*system, cells []cell) ([]outcome, error) {
	filled := make(map[string]bool)
	fresh := make(map[string]load.Keys)
	var outcomes []outcome
	isDown := false
	for _, c := range cells {
		if c.down && !isDown {
			isDown = true
			if err := loseOne(ctx, systems); err != nil {
				return nil, err
			}
		}
		o := outcome{c, make(map[string]*sample)}
		for range b.rounds {
			for _, s := range systems {
				if !c.suits(s.name) {
					continue
				}
				at := s.name + c.prefix()
				if !c.fresh && !filled[at] && s.name != "bare" {
					if err := b.fill(ctx, s, c.prefix(), 0, keys(c.size, b.keys), c.size); err != nil {
						return nil, err
					}
					filled[at] = true
				}
				if fresh[at] == nil {
					fresh[at] = load.Sequence(0)
				}
				round, err := b.measure(ctx, s, c, fresh[at])
				if err != nil {
					return nil, fmt.Errorf("%s on %s: %w", c.name(), s.name, err)
				}
				b.say("%-44s %-7s %9.0f/s  p50 %-9v p99 %-9v %s", c.name(), s.name,
					round.Throughput(), round.Quantile(0.5), round.Quantile(0.99), round.Reasons())
				if o.samples[s.name] == nil {
					o.samples[s.name] = new(sample)
				}
				o.samples[s.name].add(round)
			}
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, nil
}

// loseOne kills the last node of each cluster, and waits until the others work without it.
func loseOne(ctx context.Context, systems []*system) error {
	for _, s := range systems {
		if len(s.servers) < nodes {
			continue
		}
		s.kill(nodes - 1)
		if err := s.awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// config is the load of cell c on s.
func (b *bench) config(s *system, c cell, fresh load.Keys) load.Config {
	servers, _ := s.running()
	cfg := load.Config{
		Servers: servers, Format: s.format(c.level, c.level), Op: c.op, Prefix: c.prefix(), Value: load.Value(c.size),
		Connections: c.connections, Keys: load.Uniform(keys(c.size, b.keys)),
	}
	switch {
	case c.fresh:
		cfg.Keys = fresh
	case c.op == load.Mix:
		cfg.Keys = load.Zipf(keys(c.size, b.keys))
	}
	return cfg
}

// measure runs one round of a cell.
func (b *bench) measure(ctx context.Context, s *system, c cell, fresh load.Keys) (sample, error) {
	writtenBefore, err := b.written()
	if err != nil {
		return sample{}, err
	}
	l, err := load.Start(ctx, b.config(s, c, fresh))
	if err != nil {
		return sample{}, err
	}
	defer l.Stop()
	if err := pause(ctx, b.warmup); err != nil {
		return sample{}, err
	}
	before, err := s.usage()
	if err != nil {
		return sample{}, err
	}
	clientBefore := ownCPU()
	all := l.Cut().Requests()
	if err := pause(ctx, b.duration); err != nil {
		return sample{}, err
	}
	round := sample{Result: l.Cut()}
	after, err := s.usage()
	if err != nil {
		return sample{}, err
	}
	round.cpu, round.client = after.CPU-before.CPU, ownCPU()-clientBefore
	all += round.Requests() + l.Stop().Requests()
	if err := s.settle(ctx); err != nil {
		return sample{}, err
	}
	writtenAfter, err := b.written()
	if err != nil {
		return sample{}, err
	}
	if b.device != nil && s.name != "bare" {
		round.written, round.stored = writtenAfter-writtenBefore, stored(c, all, len(s.processes))
	}
	round.memory, err = s.largest()
	return round, err
}

// written returns what was written to the device with the data; 0 if there is none.
func (b *bench) written() (uint64, error) {
	if b.device == nil {
		return 0, nil
	}
	return b.device.written()
}

// stored returns how many bytes of values so many requests have had stored on all nodes that run.
func stored(c cell, requests uint64, all int) uint64 {
	copies := uint64(all)
	if c.down {
		copies--
	}
	switch c.op {
	case load.Put:
		return requests * uint64(c.size) * copies
	case load.Mix:
		return requests / 20 * uint64(c.size) * copies
	}
	return 0
}

// fillLimit is how long storing the keys of one workload may take.
const fillLimit = 10 * time.Minute

// fill puts the keys from first to below end, and waits until they rest on the disks. What is refused is put again: a
// cluster that is full of work may say so.
func (b *bench) fill(ctx context.Context, s *system, prefix string, first, end uint64, size int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fillLimit, fmt.Errorf("it takes more than %v", fillLimit))
	defer cancel()
	servers, _ := s.running()
	l, err := load.Start(ctx, load.Config{
		Servers: servers, Format: s.format("", ""), Op: load.Put, Prefix: prefix, Value: load.Value(size),
		Keys: load.Sequence(first), Requests: end - first, Connections: 2 * baseConnections, Retry: true,
	})
	if err != nil {
		return err
	}
	result := l.Wait()
	b.say("%-44s %-7s %9.0f/s  %s", fmt.Sprintf("fill: %d keys of %s", end-first, bytesText(size)), s.name, result.Throughput(), result.Reasons())
	if ctx.Err() != nil {
		return fmt.Errorf("fill %s: %w %s", s.name, context.Cause(ctx), result.Example)
	}
	return s.settle(ctx)
}

// ownCPU is the processor time of this process, which is the load's but for little.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it does not fail for oneself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// errInterrupted is the cause of a run that somebody ended.
var errInterrupted = errors.New("interrupted")

// pause waits, and returns why if ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
