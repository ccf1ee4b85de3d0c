package faults

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/node"
)

// clockFaults are about nodes whose clock is wrong.
var clockFaults = []fault{
	wrongClock("clock an hour ahead", func(*rand.Rand) time.Duration { return time.Hour }),
	wrongClock("clock an hour behind", func(*rand.Rand) time.Duration { return -time.Hour }),
	wrongClock("clock a little off", func(random *rand.Rand) time.Duration {
		return time.Duration(random.Int64N(int64(800*time.Millisecond))) - 400*time.Millisecond
	}),
	{name: "clock that drifts and steps back", clocks: true, hold: lasting(time.Second, 2*time.Second), inject: drift},
	{name: "key of the year 2100", clocks: true, hold: lasting(time.Second, 2*time.Second), inject: writeIn2100},
}

// wrongClock sets the clock of one node, and sets it right at the end.
func wrongClock(name string, draw func(*rand.Rand) time.Duration) fault {
	return fault{name: name, clocks: true, hold: lasting(time.Second, 2500*time.Millisecond), inject: func(s *subject, random *rand.Rand) injury {
		v, offset := random.IntN(len(s.nodes)), draw(random)
		s.setClock(v, offset)
		return injury{what: fmt.Sprintf("the clock of n%d set by %v", v, offset), heal: func() { s.setClock(v, 0) }}
	}}
}

// drift has a clock run at twice its speed and step back again and again.
func drift(s *subject, random *rand.Rand) injury {
	v := random.IntN(len(s.nodes))
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for offset := time.Duration(0); ; offset += 10 * time.Millisecond {
			select {
			case <-end:
				return
			case <-time.After(10 * time.Millisecond):
			}
			if offset > time.Duration(200+random.IntN(600))*time.Millisecond {
				offset = -offset
			}
			s.setClock(v, offset)
		}
	}()
	return injury{what: fmt.Sprintf("the clock of n%d drifts", v), heal: func() {
		close(end)
		<-done
		s.setClock(v, 0)
	}}
}

// writeIn2100 has a node take it for the year 2100 while it is asked to write one key. What it stamps later is above that.
func writeIn2100(s *subject, random *rand.Rand) injury {
	v := random.IntN(len(s.nodes))
	s.setClock(v, time.Until(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)))
	key := fmt.Sprintf("y2100n%d", s.rounds)
	s.loose[key] = true // it is in no history
	if err := s.Node(v).Put(key, "x").Expect(201); err != nil {
		s.t.Fatal(err)
	}
	s.setClock(v, 0)
	return injury{what: fmt.Sprintf("n%d was in the year 2100", v), heal: func() {}}
}

// setClock sets the clock of a node and returns when it goes by it.
func (s *subject) setClock(i int, offset time.Duration) {
	path := clockOf(s.Node(i).Data)
	err := os.WriteFile(path+".new", []byte(strconv.FormatInt(int64(offset), 10)), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		s.t.Errorf("set the clock of n%d: %v", i, err)
	}
	time.Sleep(4 * clockPeriod)
}

const (
	// programVariable in the environment makes this test's program a node whose clock can be set.
	programVariable = "SNAKES_TEST_CLOCK"
	// clockPeriod is how often it looks how its clock is set.
	clockPeriod = 2 * time.Millisecond
)

// clockOf returns the file that says by how many nanoseconds the clock of a node is wrong.
func clockOf(data string) string { return data + ".clock" }

// becomeNode is a node with those flags of snakes that package cluster uses, and a clock that can be set.
func becomeNode(args []string) error {
	var cfg node.Config
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	flags.IntVar(&cfg.Port, "port", 0, "")
	flags.StringVar(&cfg.Data, "data", "", "")
	flags.StringVar(&cfg.Cluster, "cluster", "", "")
	flags.StringVar(&cfg.Name, "name", "", "")
	flags.DurationVar(&cfg.TombstoneAge, "tombstone-age", 0, "")
	flags.Func("checkpoint-size", "", func(string) error {
		cfg.CheckpointBytes = 1 << 20
		return nil
	})
	flags.Func("join", "", func(seed string) error {
		cfg.Join = append(cfg.Join, seed)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var offset atomic.Int64
	go func() { // as long as the process
		for ; ; time.Sleep(clockPeriod) {
			if text, err := os.ReadFile(clockOf(cfg.Data)); err == nil {
				if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
					offset.Store(n)
				}
			}
		}
	}()
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	cfg.Logger = hclog.New(&hclog.LoggerOptions{Output: os.Stderr})
	return node.Serve(ctx, cfg)
}
