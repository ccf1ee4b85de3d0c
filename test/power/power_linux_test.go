package power

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
	"github.com/protocol7/snakes/test/volume"
)

var (
	rounds = flag.Int("rounds", 0, "how many rounds, half of them with each kind of mount; 0: 100 with CI=true, else 20")
	seed   = flag.Uint64("seed", rand.Uint64N(1e9), "what the rounds are drawn from")
)

func TestMain(m *testing.M) {
	runtime.LockOSThread()
	if os.Getenv(programVariable) != "" {
		fmt.Fprintln(os.Stderr, becomeNode())
		os.Exit(1)
	}
	// Without a namespace there are no mounts either: the tests say what is missing.
	if err := volume.PrivateMounts(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	runtime.UnlockOSThread()
	flag.Parse()
	if *rounds == 0 {
		*rounds = 20
		if os.Getenv("CI") == "true" {
			*rounds = 100
		}
	}
	os.Exit(cluster.Main(m))
}

func TestAPowerCutLosesNothingAcknowledged(t *testing.T) {
	for name, options := range map[string]string{"default mount": "", "noauto_da_alloc": "noauto_da_alloc"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, options, "data")
			start := time.Now()
			for i := range *rounds / 2 {
				p := drawPlan(*seed + uint64(i))
				if err := r.round(p); err != nil {
					t.Fatalf("round %d of -seed %d: %v: %v", i+1, *seed, p, err)
				}
			}
			syncs, _ := r.seen()
			t.Logf("seed %d: %d rounds with %d cuts in %v, %d writes acknowledged, none lost; syncs: %v",
				*seed, *rounds/2, r.cuts, time.Since(start).Round(time.Millisecond), r.writes, syncs)
			if r.writes == 0 || syncs["syncall keys"] == 0 && *rounds >= 20 {
				t.Error("there were no writes, or no checkpoints")
			}
		})
	}
}

// mutants are syncs that the rig finds missing, with the number of rounds that are enough for it.
var mutants = []struct {
	name   string
	kinds  []string
	anew   bool // each round begins with an empty directory
	within int
}{
	{"entries of the journal", []string{"sync journal/0*"}, false, 20},
	{"content of a segment", []string{"sync journal/spare"}, false, 40},
	{"names of segments", []string{"syncdir journal"}, false, 40},
	{"files at a checkpoint", []string{"syncall keys"}, false, 20},
	{"state files", []string{"sync tmp/*-state"}, true, 20},
	{"format", []string{"sync format.new"}, true, 20},
	{"node id", []string{"sync tmp/*-node"}, true, 20},
	{"all files", []string{"sync *", "sync */*"}, false, 20},
	{"all names", []string{"syncdir *"}, false, 20},
}

// TestEachMissingSyncIsNoticed has nodes believe in syncs that are not done. If nothing is wrong
// after that, the rig would not find a loss either.
func TestEachMissingSyncIsNoticed(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			r := newRig(t, "noauto_da_alloc", "data")
			r.lies = func(s step) bool {
				return slices.ContainsFunc(m.kinds, func(kind string) bool { return moment{kind: kind}.is(s) })
			}
			for i := range m.within {
				p := drawPlan(*seed + uint64(i))
				p.anew = p.anew || m.anew
				if err := r.round(p); err != nil {
					t.Logf("noticed in round %d of seed %d: %.300v", i+1, *seed, err)
					return
				}
			}
			_, lied := r.seen()
			t.Errorf("nothing was noticed in %d rounds with %d writes, though %d syncs were left out", m.within, r.writes, lied)
		})
	}
}

// TestTheNameOfANewDataDirectoryIsSynced, and those of the directories above it that were not there. ext4 makes
// up for these syncs, so that no cut can show that they are missing.
func TestTheNameOfANewDataDirectoryIsSynced(t *testing.T) {
	r := newRig(t, "", "above/data")
	if err := r.start(drawPlan(*seed), nil); err != nil {
		t.Fatal(err)
	}
	syncs, _ := r.seen()
	for _, parent := range []string{"syncdir ..", "syncdir ../.."} {
		if syncs[parent] == 0 {
			t.Errorf("the node was ready without %q; its syncs: %v", parent, syncs)
		}
	}
}
