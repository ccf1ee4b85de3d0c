//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/protocol7/snakes/node/client/load"
	"github.com/protocol7/snakes/test/bench/proc"
)

// idle is what a cluster costs that nobody asks, for each node.
type idle struct {
	keys    uint64
	cpu     float64 // of a core
	memory  uint64  // bytes, the largest node
	written uint64  // bytes, all nodes together
	// liveHeap is what the first node's collector found alive last, in bytes.
	liveHeap uint64
	over     time.Duration
}

// stage is a cluster with a number of keys.
type stage struct {
	keys          uint64
	put, get, one load.Result // w=3, r=3, r=1
	memory        uint64      // bytes, the largest node, after them
}

// growth is what keys cost.
type growth struct {
	idle            []idle
	stages          []stage
	wanted          uint64    // keys
	digest, members latencies // of requests to a node with all keys
	page            latencies // of the whole operators' page of that node
	pageBytes       int
	stopped, killed time.Duration // from the start of a node until it was ready, after SIGTERM and after SIGKILL
	afterRestart    uint64        // bytes of memory of that node
	liveHeap        uint64        // bytes that a collection leaves in it then
}

const growthPrefix = "growx"

// fewKeys is how many keys the first stage has.
const fewKeys = 10_000

// growth fills a new cluster, with all keys if it can within b.fillTime.
func (b *bench) growth(ctx context.Context, binary string, many uint64) (*growth, error) {
	dir := filepath.Join(b.dir, "growth")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	g := &growth{wanted: many}
	if files, err := room(dir); err != nil {
		return nil, err
	} else if most := files / nodes / 4 * 3; many > most { // some room is for journals, and for the machine itself
		b.say("the disk has room for files of %d keys only", most)
		many = most
	}
	if many <= fewKeys {
		return nil, fmt.Errorf("%d keys are not more than %d: there is nothing to compare", many, fewKeys)
	}
	s, err := newSnakes(binary, dir, nil)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	if err := b.idle(ctx, s, g, 0); err != nil {
		return nil, err
	}
	if err := b.fill(ctx, s, growthPrefix, 0, fewKeys, baseSize); err != nil {
		return nil, err
	}
	if err := b.stage(ctx, s, g, fewKeys); err != nil {
		return nil, err
	}
	many, err = b.fillWithin(ctx, s, fewKeys, many)
	if err != nil {
		return nil, err
	}
	if err := b.stage(ctx, s, g, many); err != nil {
		return nil, err
	}
	if err := b.status(ctx, s, g); err != nil {
		return nil, err
	}
	if err := b.idle(ctx, s, g, many); err != nil {
		return nil, err
	}
	return g, b.restarts(ctx, s, g)
}

// fillWithin puts the keys from first to below end, fewer if the time is over, and returns the end.
func (b *bench) fillWithin(ctx context.Context, s *system, first, end uint64) (uint64, error) {
	const part = 10_000
	for begun := time.Now(); first < end && time.Since(begun) < b.fillTime; {
		next := min(first+part, end)
		quiet := *b
		quiet.progress = nil
		if err := quiet.fill(ctx, s, growthPrefix, first, next, baseSize); err != nil {
			return 0, err
		}
		first = next
	}
	b.say("%-44s %-7s", fmt.Sprintf("fill: up to %d keys of %s", first, bytesText(baseSize)), s.name)
	return first, awaitSameDigests(ctx, s, startLimit)
}

// idle watches the cluster while nobody asks it.
func (b *bench) idle(ctx context.Context, s *system, g *growth, keys uint64) error {
	if err := pause(ctx, 3*time.Second); err != nil { // whatever it has begun ends first
		return err
	}
	before, err := s.usage()
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := pause(ctx, b.idleTime); err != nil {
		return err
	}
	after, err := s.usage()
	if err != nil {
		return err
	}
	i := idle{keys: keys, over: time.Since(begun), written: after.Written - before.Written}
	i.cpu = (after.CPU - before.CPU).Seconds() / i.over.Seconds() / nodes
	if i.memory, err = s.largest(); err != nil {
		return err
	}
	if i.liveHeap, _, err = liveHeap(ctx, s.servers[0]); err != nil {
		return err
	}
	g.idle = append(g.idle, i)
	b.say("%-44s %-7s %.2f %% of a core, %d MB, %d bytes written", fmt.Sprintf("idle with %d keys", keys), s.name, 100*i.cpu, i.memory/1e6, i.written)
	return nil
}

// stage measures the cluster with so many keys.
func (b *bench) stage(ctx context.Context, s *system, g *growth, keys uint64) error {
	st := stage{keys: keys}
	for _, work := range []struct {
		op    load.Op
		level string
		into  *load.Result
	}{
		{load.Put, "3", &st.put},
		{load.Get, "3", &st.get},
		{load.Get, "1", &st.one},
	} {
		l, err := load.Start(ctx, load.Config{
			Servers: s.servers, Format: s.format(work.level, work.level), Op: work.op, Prefix: growthPrefix,
			Keys: load.Uniform(keys), Value: load.Value(baseSize), Connections: baseConnections,
		})
		if err != nil {
			return err
		}
		err = pause(ctx, b.warmup)
		l.Cut()
		err = errors.Join(err, pause(ctx, b.duration))
		*work.into = l.Stop()
		if err != nil {
			return context.Cause(ctx)
		}
		if err := s.settle(ctx); err != nil {
			return err
		}
		b.say("%-44s %-7s %9.0f/s  p50 %-9v p99 %-9v %s", fmt.Sprintf("%v %s with %d keys", work.op, work.level, keys), s.name,
			work.into.Throughput(), work.into.Quantile(0.5), work.into.Quantile(0.99), work.into.Reasons())
	}
	var err error
	st.memory, err = s.largest()
	g.stages = append(g.stages, st)
	return err
}

// status asks for what operators ask for.
func (b *bench) status(ctx context.Context, s *system, g *growth) (err error) {
	ask := func(path string) func(int) error {
		return func(int) error {
			_, err := get(ctx, s.servers[0]+path)
			return err
		}
	}
	if g.digest, err = timed(ctx, time.Second, ask("/-/digest")); err != nil {
		return err
	}
	if g.members, err = timed(ctx, time.Second, ask("/-/members")); err != nil {
		return err
	}
	g.page, err = timed(ctx, time.Second, func(int) error {
		body, err := get(ctx, s.servers[0]+"/-/ui/")
		g.pageBytes = len(body)
		return err
	})
	return err
}

// restarts stops the last node and starts it again, then kills it and does so again.
func (b *bench) restarts(ctx context.Context, s *system, g *growth) error {
	const last = nodes - 1
	ready := func() (time.Duration, error) {
		begun := time.Now()
		if err := s.restart(last); err != nil {
			return 0, err
		}
		err := await(ctx, 5*time.Minute, "the node to be ready again", func() error {
			if err := s.processes[last].alive(); err != nil {
				return err
			}
			_, err := get(ctx, s.servers[last]+"/-/ready")
			return err
		})
		return time.Since(begun), err
	}
	if err := s.processes[last].stop(); err != nil {
		return err
	}
	var err error
	if g.stopped, err = ready(); err != nil {
		return err
	}
	u, err := proc.Of(s.processes[last].pid())
	if err != nil {
		return err
	}
	g.afterRestart = u.RSS
	if g.liveHeap, err = awaitLiveHeap(ctx, s.servers[last]); err != nil {
		return err
	}
	s.kill(last)
	if g.killed, err = ready(); err != nil {
		return err
	}
	b.say("%-44s %-7s %v after SIGTERM, %v after SIGKILL", "restart until ready", s.name, g.stopped.Round(time.Millisecond), g.killed.Round(time.Millisecond))
	return nil
}

// collectionLimit is how long it may take until a node collects its garbage: the runtime does so after two minutes
// without need.
const collectionLimit = 150 * time.Second

// awaitLiveHeap returns the bytes that a collection of garbage leaves that began from now on: one before may have been
// while the node still took in its keys.
func awaitLiveHeap(ctx context.Context, server string) (bytes uint64, err error) {
	begun := time.Now()
	err = await(ctx, collectionLimit, "the node to collect its garbage", func() error {
		var at time.Time
		if bytes, at, err = liveHeap(ctx, server); err == nil && at.Before(begun) {
			err = fmt.Errorf("the last time was %v", at)
		}
		return err
	})
	return bytes, err
}

// liveHeap returns the bytes that a node's last collection of garbage left, and when that was.
func liveHeap(ctx context.Context, server string) (bytes uint64, at time.Time, err error) {
	text, err := get(ctx, server+"/-/metrics")
	if err != nil {
		return 0, time.Time{}, err
	}
	live, err := metric(text, "go_gc_heap_live_bytes")
	if err != nil {
		return 0, time.Time{}, err
	}
	last, err := metric(text, "go_memstats_last_gc_time_seconds")
	return uint64(live), time.UnixMicro(int64(last * 1e6)), err
}

// metric returns the value of a metric without labels in the text format of Prometheus.
func metric(text []byte, name string) (float64, error) {
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

func digestOf(body []byte) (string, error) {
	var d struct {
		Digest string `json:"digest"`
		Keys   uint64 `json:"keys"`
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	if d.Digest == "" {
		return "", fmt.Errorf("no digest in %.100q", body)
	}
	return fmt.Sprintf("%s of %d keys", d.Digest, d.Keys), nil
}
