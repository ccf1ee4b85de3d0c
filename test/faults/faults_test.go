package faults

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

var (
	rounds    = flag.Int("rounds", 0, "how many rounds of each fault; 0: one of each with CI=true and without the race detector, else one of a few")
	seed      = flag.Uint64("seed", rand.Uint64N(1e9), "what the rounds are drawn from: round i from the seed and i")
	duration  = flag.Duration("duration", 0, "how long each fault goes on with more rounds, whatever -rounds says")
	histories = flag.String("histories", filepath.Join(os.TempDir(), "snakes-histories"), "directory for the histories of rounds that went wrong")
	results   = flag.String("results", "", "file to add what was counted to, such as RESULTS.md")
)

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		if err := becomeNode(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	runtime.LockOSThread()
	if err := privateMounts(); err != nil { // the faults that need them say so
		fmt.Fprintln(os.Stderr, err)
	}
	runtime.UnlockOSThread()
	flag.Parse()
	os.Exit(cluster.Main(m))
}

func allFaults() []fault { return slices.Concat(processFaults, networkFaults, diskFaults, clockFaults) }

// TestFaults hurts a cluster under load, again and again, with each fault. Nothing that a client can see may be wrong.
func TestFaults(t *testing.T) {
	commit := commitOf()
	t.Logf("-seed %d, commit %s", *seed, commit)
	var recording sync.Mutex
	for i, f := range allFaults() {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			sample(t, i, 6)
			needs(t, f)
			sum := result{commit: commit, fault: f.name}
			began := time.Now()
			defer func() {
				sum.seeds = [][2]uint64{{*seed, *seed + uint64(max(1, sum.rounds)) - 1}}
				t.Log(sum)
				if *results != "" && sum.rounds > 0 {
					recording.Lock()
					defer recording.Unlock()
					if err := recordResults(*results, []result{sum}); err != nil {
						t.Error(err)
					}
				}
			}()
			s := newSubject(t, f, cluster.Options{})
			for i := 0; i < max(1, *rounds) || time.Since(began) < *duration; i++ {
				r := s.round(f, *seed+uint64(i))
				sum.add(r)
				t.Logf("round %d, seed %d: %s: %d operations, %d failed, error window %v, recovered after %v", i, r.seed, r.what, r.operations,
					r.failed, r.window.Round(time.Millisecond), r.recovery.Round(time.Millisecond))
				if len(r.twice) > 0 {
					t.Logf("a write that showed under two versions:\n%s", r.twice[0])
				}
				if len(r.wrong) > 0 {
					t.Fatalf("seed %d: %s: %d violations, history in %s:\n  %s", r.seed, r.what, len(r.wrong), keep(t, f, r), summary(r.wrong))
				}
			}
		})
	}
}

// sample skips all but every nth test, which the seed says, unless everything is wanted: in CI, or by the flags.
func sample(t *testing.T, i, n int) {
	t.Helper()
	all := *rounds > 0 || *duration > 0 || flag.Lookup("test.run").Value.String() != "" || os.Getenv("CI") == "true" && !cluster.Raced()
	if !all && uint64(i)%uint64(n) != *seed%uint64(n) {
		t.Skip("not in this sample, see -rounds")
	}
	t.Parallel()
}

// needs skips a test on a machine that lacks what a fault needs.
func needs(t *testing.T, f fault) {
	t.Helper()
	if f.needs != nil {
		if err := f.needs(); err != nil {
			cluster.Missing(t, "this fault lacks %v", err)
		}
	}
}

// keep writes the history of a round that went wrong to a file and returns its name.
func keep(t *testing.T, f fault, r report) string {
	t.Helper()
	path := filepath.Join(*histories, fmt.Sprintf("%s-%d.jsonl", strings.ReplaceAll(f.name, " ", "-"), r.seed))
	if err := os.MkdirAll(*histories, 0o755); err != nil {
		return err.Error()
	}
	file, err := os.Create(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if err := r.history.save(file); err != nil {
		return err.Error()
	}
	return path
}
