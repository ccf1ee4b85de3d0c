//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/protocol7/snakes/node/client/load"
)

// The kernel kills the servers when the thread that started them ends: the main one ends with the process.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) == 3 && os.Args[1] == bareFlag {
		fmt.Fprintln(os.Stderr, "bench:", serveBare(os.Args[2]))
		os.Exit(1)
	}
	ctx, end := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // the next one ends the process at once
		end(errInterrupted)
	}()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		if errors.Is(err, errInterrupted) {
			os.Exit(130)
		}
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

// settings are what the flags say.
type settings struct {
	quick, keep                        bool
	partList, sizeList, connectionList string
	only                               string
	duration, warmup, fillTime         time.Duration
	idleTime                           time.Duration
	rounds, keys, many                 int
	parent, out, binary, etcd          string
}

// bench is one run.
type bench struct {
	settings
	parts       []string
	sizes       []int
	connections []int
	chosen      *regexp.Regexp
	dir         string    // of the data
	device      *device   // of the data; nil: none that counts
	progress    io.Writer // nil: nobody is told
	begun       time.Time
}

const snakesPackage = "github.com/protocol7/snakes/cmd/snakes"

var allParts = []string{"floor", "work", "faults", "keys"}

func newFlags(s *settings, output io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(output)
	f.BoolVar(&s.quick, "quick", false, "look at the most important workloads for a moment: less than two minutes")
	f.StringVar(&s.partList, "parts", strings.Join(allParts, ","), "what to measure")
	f.StringVar(&s.only, "work", "", "measure only workloads whose names match this `regexp`; names are those of the table")
	f.StringVar(&s.sizeList, "sizes", "16,256,16384,262144", "value sizes in bytes")
	f.StringVar(&s.connectionList, "connections", "1,64,256", "numbers of connections")
	f.DurationVar(&s.duration, "duration", 3*time.Second, "how long to measure each round of a workload")
	f.DurationVar(&s.warmup, "warmup", 500*time.Millisecond, "how long to wait before")
	f.IntVar(&s.rounds, "rounds", 2, "how often each system has its turn on a workload")
	f.IntVar(&s.keys, "keys", 100_000, "keys that the loads of the part work share")
	f.IntVar(&s.many, "many", 1_000_000, "keys of the part keys")
	f.DurationVar(&s.fillTime, "fill", 4*time.Minute, "how long storing so many may take; then it goes on with what there is")
	f.DurationVar(&s.idleTime, "idle", 10*time.Second, "how long to watch idle clusters")
	f.StringVar(&s.parent, "dir", "", "`directory` for the data (default: the temporary one, unless that is in memory; then the current one)")
	f.StringVar(&s.out, "out", "test/bench", "`directory` for RESULTS.md and charts; empty: none")
	f.StringVar(&s.binary, "binary", "", "`snakes` to measure instead of the one that is built from ./cmd/snakes")
	f.StringVar(&s.etcd, "etcd", "etcd", "`etcd` to compare with, a path or a name on PATH; empty: none")
	f.BoolVar(&s.keep, "keep", false, "keep the data and logs of the servers")
	return f
}

// hurry sets what -quick means, where no flag says otherwise.
func (s *settings) hurry(f *flag.FlagSet) {
	given := make(map[string]bool)
	f.Visit(func(flag *flag.Flag) { given[flag.Name] = true })
	for name, value := range map[string]string{
		"sizes": "256", "connections": "1,64", "duration": "1s", "warmup": "200ms", "rounds": "1", "keys": "5000",
		"many": "30000", "fill": "10s", "idle": "3s",
	} {
		if !given[name] {
			_ = f.Set(name, value) // they are right
		}
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	b := &bench{progress: stderr, begun: time.Now()}
	flags := newFlags(&b.settings, stderr)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage // it has been told
	}
	if b.quick {
		b.hurry(flags)
	}
	if err := b.check(flags.Args()); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return errUsage
	}
	if b.dir, err = dataDirectory(b.parent); err != nil {
		return err
	}
	if b.keep {
		fmt.Fprintln(stderr, "data and logs are in", b.dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	r := &report{settings: words(args), day: b.begun.Format(time.DateOnly)}
	if err := b.measureAll(ctx, r); err != nil {
		return err
	}
	r.took = time.Since(b.begun)
	if b.out != "" {
		err = r.write(b.out)
	}
	_, writeErr := io.WriteString(stdout, r.Markdown())
	return errors.Join(append(r.problems, err, writeErr)...)
}

// words returns args as they follow a command, without those that name places on this machine.
func words(args []string) string {
	var b strings.Builder
	for i := 0; i < len(args); i++ {
		name, _, together := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if slices.Contains([]string{"dir", "out", "binary", "etcd"}, name) {
			if !together {
				i++
			}
			continue
		}
		if strings.ContainsAny(args[i], " '|*()[]$\\") {
			fmt.Fprintf(&b, " '%s'", args[i])
		} else {
			b.WriteString(" " + args[i])
		}
	}
	return b.String()
}

// check parses what is in lists, and refuses what makes no sense.
func (b *bench) check(rest []string) (err error) {
	if len(rest) > 0 {
		return fmt.Errorf("%q is no flag", rest[0])
	}
	b.parts = strings.Split(b.partList, ",")
	for _, part := range b.parts {
		if !slices.Contains(allParts, part) {
			return fmt.Errorf("there is no part %q, but %s", part, strings.Join(allParts, ", "))
		}
	}
	if b.sizes, err = numbers("sizes", b.sizeList, 1<<20); err != nil {
		return err
	}
	if b.connections, err = numbers("connections", b.connectionList, load.MaxConnections); err != nil {
		return err
	}
	if b.chosen, err = regexp.Compile(b.only); err != nil {
		return fmt.Errorf("-work: %w", err)
	}
	for name, d := range map[string]time.Duration{"duration": b.duration, "idle": b.idleTime, "warmup": b.warmup} {
		if d < step {
			return fmt.Errorf("-%s %v is less than %v", name, d, step)
		}
	}
	if b.rounds < 1 || b.keys < 1 || b.keys > load.MaxKeys || b.many <= fewKeys || b.many > load.MaxKeys {
		return fmt.Errorf("-rounds and -keys are at least 1, -many more than %d", fewKeys)
	}
	return nil
}

// numbers parses a list of numbers from 1 to most, and leaves out repeated ones.
func numbers(name, list string, most int) ([]int, error) {
	var all []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("-%s: %q is no number from 1 to %d", name, text, most)
		}
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all, nil
}

// measureAll fills in r.
func (b *bench) measureAll(ctx context.Context, r *report) (err error) {
	etcd := ""
	if b.etcd != "" {
		if etcd, err = exec.LookPath(b.etcd); err != nil {
			b.say("no etcd: the comparison with it is left out (Debian: apt-get install etcd-server)")
		}
	}
	if r.machine, err = thisMachine(b.dir, etcd); err != nil {
		return err
	}
	if b.device, err = deviceOf(b.dir); err != nil {
		return err
	}
	b.say("%s", strings.TrimSpace(r.machine.String()))
	binary := b.binary
	if binary == "" {
		binary = filepath.Join(b.dir, "snakes")
		if output, err := exec.CommandContext(ctx, "go", "build", "-o", binary, snakesPackage).CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", snakesPackage, err, output)
		}
	}
	for _, part := range b.parts {
		switch part {
		case "floor":
			r.floor, err = measureFloor(ctx, b.dir, b.duration)
		case "work":
			r.outcomes, err = b.workPart(ctx, binary, etcd)
		case "faults":
			ops := []load.Op{load.Put, load.Get}
			if b.quick {
				ops = ops[:1]
			}
			r.faults, r.sleep, err = b.faults(ctx, binary, ops)
		case "keys":
			r.growth, err = b.growth(ctx, binary, uint64(b.many))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil { // the other parts are worth having
			b.say("%s: %v", part, err)
			r.problems = append(r.problems, fmt.Errorf("%s: %w", part, err))
		}
	}
	return nil
}

// workPart starts the systems, and ends them.
func (b *bench) workPart(ctx context.Context, binary, etcd string) ([]outcome, error) {
	var cells []cell
	for _, c := range plan(b.sizes, b.connections) {
		if b.chosen.MatchString(c.name()) {
			cells = append(cells, c)
		}
	}
	if len(cells) == 0 {
		return nil, fmt.Errorf("-work %s matches no workload", b.only)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	declare := []func() (*system, error){
		func() (*system, error) { return newSnakes(binary, b.dir, nil) },
		func() (*system, error) { return newClosed(binary, b.dir) },
		func() (*system, error) { return newBare(self, b.dir) },
	}
	if etcd != "" {
		declare = slices.Insert(declare, 1, func() (*system, error) { return newEtcd(etcd, b.dir) })
	}
	var running []*system
	for _, f := range declare {
		s, err := f() // it takes ports that are free, so those before it must have started
		if err != nil {
			return nil, err
		}
		defer s.close()
		if err := s.start(ctx); err != nil {
			return nil, err
		}
		running = append(running, s)
	}
	return b.work(ctx, running, cells)
}

// say tells whoever waits what has been done.
func (b *bench) say(format string, args ...any) {
	if b.progress == nil {
		return
	}
	fmt.Fprintf(b.progress, "%4.0fs  %s\n", time.Since(b.begun).Seconds(), strings.TrimRight(fmt.Sprintf(format, args...), " "))
}
