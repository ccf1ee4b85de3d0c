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
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

var (
	rounds    = flag.Int("rounds", 2, "how many rounds of each fault")
	seed      = flag.Uint64("seed", rand.Uint64N(1e9), "what the rounds are drawn from: round i from the seed and i")
	duration  = flag.Duration("duration", 0, "how long each fault goes on with more rounds, whatever -rounds says")
	histories = flag.String("histories", filepath.Join(os.TempDir(), "snakes-histories"), "directory for the histories of rounds that went wrong")
	results   = flag.String("results", "", "file to add what was counted to, such as RESULTS.md")
)

func TestMain(m *testing.M) {
	runtime.LockOSThread()
	if err := privateMounts(); err != nil { // the faults that need them say so
		fmt.Fprintln(os.Stderr, err)
	}
	runtime.UnlockOSThread()
	flag.Parse()
	os.Exit(cluster.Main(m))
}

func allFaults() []fault { return slices.Concat(processFaults, networkFaults, diskFaults) }

// TestFaults hurts a cluster under load, again and again, with each fault. Nothing that a client can see may be wrong.
func TestFaults(t *testing.T) {
	commit := commitOf()
	t.Logf("-seed %d, commit %s", *seed, commit)
	for _, f := range allFaults() {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			if f.needs != nil {
				if err := f.needs(); err != nil {
					cluster.Missing(t, "this fault lacks %v", err)
				}
			}
			sum := result{commit: commit, fault: f.name}
			began := time.Now()
			defer func() {
				sum.seeds = [][2]uint64{{*seed, *seed + uint64(max(1, sum.rounds)) - 1}}
				t.Log(sum)
				if *results != "" && sum.rounds > 0 {
					if err := recordResults(*results, []result{sum}); err != nil {
						t.Error(err)
					}
				}
			}()
			s := newSubject(t, f, cluster.Options{})
			for i := 0; i < *rounds || time.Since(began) < *duration; i++ {
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
