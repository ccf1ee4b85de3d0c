package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/node/client/load"
)

const (
	// maxBenchKeys and maxBenchSize keep a slip of the finger from filling the members' disks.
	maxBenchKeys = 10_000_000
	maxBenchSize = client.DefaultMaxValue
	// benchWarmup is what part of a workload's time passes before anything counts.
	benchWarmup = 10
	// cleanTime is how long deleting the keys may take, besides what storing them took.
	cleanTime = time.Minute
)

// bench is one run of the command of that name.
type bench struct {
	*remote
	client  *client.Client
	servers []string

	workloads   []string
	readLevel   string
	writeLevel  string
	connections int
	duration    time.Duration
	size, keys  int
	fresh       bool
	rate        float64
	prefix      string
	keep        bool

	end uint64 // beyond the number of the last key that may be stored; 0: none is
}

// benchWorkloads are what --workload takes.
var benchWorkloads = map[string]load.Op{"put": load.Put, "get": load.Get, "mix": load.Mix}

func (r *remote) bench() *cobra.Command {
	b := &bench{remote: r}
	size := byteSize(256)
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure how fast a cluster stores and returns values", Args: arguments(""),
		Long: `Stores keys of its own, asks for them as fast as the cluster answers, and tells how fast that was. Members
are as busy as they can be meanwhile, and other clients notice; --rate asks for less. It asks before it begins,
unless --yes is given.

The keys are --prefix and nine digits. At the end, after Ctrl-C too, they are deleted, unless --keep is given;
no other keys are touched. Values that were there under such keys are lost.

Each connection sends its next request when it has its answer. While a member stalls it is asked for nothing,
so that high percentiles look better than clients with a pace of their own see them. With --rate requests are
due at fixed times, and their latencies count from then.`,
		Example: `  snakes bench
  snakes bench --workload put -w quorum --connections 1 --size 16KiB
  snakes bench --server http://a:9000,http://b:9000,http://c:9000 --rate 1000 --yes -o json`,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.size = int(min(int64(size), math.MaxInt32))
			if err := b.check(cmd); err != nil {
				return err
			}
			return b.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&b.workloads, "workload", []string{"put", "get", "mix"}, "`LIST` of put, get and mix, which is 95 % get of a few keys mostly")
	f.IntVar(&b.connections, "connections", 64, "`NUMBER` of connections, spread over the servers")
	f.DurationVar(&b.duration, "duration", 10*time.Second, "`TIME` of each workload; the first tenth is not counted")
	f.Var(&size, "size", "size of the values")
	f.IntVar(&b.keys, "keys", 10_000, "`NUMBER` of keys")
	f.BoolVar(&b.fresh, "fresh", false, "put a new key each time, not the same ones again")
	f.Float64Var(&b.rate, "rate", 0, "`REQUESTS` a second; 0: as many as are answered")
	f.StringVar(&b.prefix, "prefix", "snakesbench", "`TEXT` that the keys begin with")
	f.BoolVar(&b.keep, "keep", false, "leave the keys in the cluster")
	levelFlag(f, &b.readLevel, "read-level", "r", "read from")
	levelFlag(f, &b.writeLevel, "write-level", "w", "have stored it")
	return cmd
}

// check refuses what makes no sense before anybody is asked.
func (b *bench) check(cmd *cobra.Command) error {
	if len(b.workloads) == 0 {
		return misused(cmd, "--workload names none")
	}
	for _, name := range b.workloads {
		if _, known := benchWorkloads[name]; !known {
			return misused(cmd, "--workload %q is none of put, get and mix", name)
		}
	}
	for _, flag := range []struct {
		name        string
		value, most int
	}{{"connections", b.connections, load.MaxConnections}, {"keys", b.keys, maxBenchKeys}, {"size", b.size, maxBenchSize}} {
		if flag.value < 1 || flag.value > flag.most {
			return misused(cmd, "--%s %d is not 1 to %d", flag.name, flag.value, flag.most)
		}
	}
	switch {
	case b.duration < 100*time.Millisecond:
		return misused(cmd, "--duration %v is less than 100ms", b.duration)
	case b.rate < 0:
		return misused(cmd, "--rate %v is below zero", b.rate)
	}
	return nil
}

// run asks, stores, measures, deletes and tells.
func (b *bench) run(ctx context.Context) error {
	return b.ask(ctx, func(limited context.Context, c *client.Client) error {
		b.client = c
		if b.servers, _ = b.addresses(); len(b.servers) == 0 {
			b.servers = []string{client.DefaultServer}
		}
		members, err := c.Members(limited)
		if err != nil {
			return err
		}
		if err := b.confirm(ctx, members); err != nil {
			return err
		}
		report := benchReport{
			Cluster: members.Cluster, Known: members.Known, Alive: members.Alive, Servers: b.servers,
			Connections: b.connections, Size: b.size, Keys: b.keys, Fresh: b.fresh, Rate: b.rate,
			ReadLevel: b.readLevel, WriteLevel: b.writeLevel,
		}
		begun := time.Now()
		err = b.measure(ctx, &report)
		if b.end > 0 && !b.keep {
			err = errors.Join(err, b.clean(ctx, time.Since(begun)+cleanTime))
		}
		if err != nil {
			return err
		}
		if err := b.print(report); err != nil {
			return err
		}
		return report.failure()
	})
}

// confirm returns nil if whoever runs the command wants it.
func (b *bench) confirm(ctx context.Context, m client.Members) error {
	pace := "as busy as it can be"
	if b.rate > 0 {
		pace = fmt.Sprintf("at %v requests a second", b.rate)
	}
	does := "replaces and deletes"
	if b.keep {
		does = "replaces"
	}
	what := fmt.Sprintf("bench keeps cluster %s (%d known, %d alive) %s for %v\nand %s keys that begin with %s.", m.Cluster, m.Known, m.Alive, pace,
		b.duration*time.Duration(len(b.workloads)), does, load.KeyName(b.prefix, 0)[:len(b.prefix)+1])
	return b.remote.confirm(ctx, what)
}

// config is a load with all that the workloads have in common.
func (b *bench) config(op load.Op) load.Config {
	timeout := b.timeout
	if timeout == 0 {
		timeout = 24 * time.Hour // for ever, as a request goes
	}
	return load.Config{
		Servers: b.servers, Format: load.Snakes(b.readLevel, b.writeLevel), Op: op, Prefix: b.prefix, Keys: load.Uniform(uint64(b.keys)),
		Value: load.Value(b.size), Connections: b.connections, Timeout: timeout, Token: b.shown, RootCAs: b.trusted,
	}
}

// measure stores the keys and runs the workloads.
func (b *bench) measure(ctx context.Context, report *benchReport) error {
	if err := b.try(ctx); err != nil {
		return err
	}
	b.end = uint64(b.keys)
	fill := b.config(load.Put)
	fill.Keys, fill.Requests, fill.Retry = nil, uint64(b.keys), true
	if _, err := b.drive(ctx, "store", fill, 0); err != nil {
		return err
	}
	fresh := load.Sequence(b.end)
	for _, name := range b.workloads {
		cfg := b.config(benchWorkloads[name])
		cfg.Rate = b.rate
		switch {
		case name == "put" && b.fresh:
			cfg.Keys = fresh
		case name == "mix":
			cfg.Keys = load.Zipf(uint64(b.keys))
		}
		result, err := b.drive(ctx, name, cfg, b.duration)
		b.end = fresh(nil)()
		if err != nil {
			return err
		}
		report.Results = append(report.Results, newBenchResult(name, result))
	}
	return nil
}

// try puts and gets one key, so that levels that make no sense or cannot be met are told as any other command tells
// them.
func (b *bench) try(ctx context.Context) error {
	if b.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, b.timeout, timeoutError(b.timeout))
		defer cancel()
	}
	key := load.KeyName(b.prefix, 0)
	if _, err := b.client.Put(ctx, key, client.Value{Data: load.Value(b.size)}, client.Level(b.writeLevel)); err != nil {
		return err
	}
	b.end = 1
	_, _, err := b.client.Get(ctx, key, client.Level(b.readLevel))
	return err
}

// drive runs a load for d, or until its requests are done if that is 0, and returns what counts of it.
func (b *bench) drive(ctx context.Context, name string, cfg load.Config, d time.Duration) (load.Result, error) {
	l, err := load.Start(ctx, cfg)
	if err != nil {
		return load.Result{}, err
	}
	defer l.Stop()
	bar := newProgress(b.stderr, name)
	defer bar.clear()
	begun, warm := time.Now(), d == 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-l.Ended():
			if ctx.Err() != nil {
				return load.Result{}, context.Cause(ctx)
			}
			return l.Wait(), nil
		case <-tick.C:
		}
		passed := time.Since(begun)
		if d > 0 && passed >= d {
			return l.Stop(), nil
		}
		if !warm && passed >= d/benchWarmup {
			warm = true
			l.Cut()
		}
		done := passed.Seconds() / max(d.Seconds(), math.SmallestNonzeroFloat64)
		if cfg.Requests > 0 {
			done = float64(l.Done()) / float64(cfg.Requests)
		}
		bar.show(done, float64(l.Done())/passed.Seconds())
	}
}

// clean deletes all keys, and goes on after an interrupt: the next one ends the process.
func (b *bench) clean(ctx context.Context, limit time.Duration) error {
	if ctx.Err() != nil {
		fmt.Fprintln(b.stderr, "deleting the keys; interrupt again to leave them")
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), limit, timeoutError(limit))
	defer cancel()
	cfg := b.config(load.Delete)
	cfg.Keys, cfg.Requests, cfg.Retry = nil, b.end, true
	if _, err := b.drive(ctx, "delete", cfg, 0); err != nil {
		return fmt.Errorf("not all keys that begin with %s were deleted: %w", b.prefix, err)
	}
	return nil
}
