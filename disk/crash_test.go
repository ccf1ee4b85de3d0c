package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// witness remembers what stores on one directory were asked, acknowledged and told, and says
// whether a store that was opened later keeps to it.
type witness struct {
	asked   map[version.Dot]replication.Record // every record ever given to Apply
	atLeast map[string]version.Version         // acknowledged or told for each key
	dropped map[string]version.Version         // the newest tombstone of each key ever given to Drop
	dots    *seen.Set                          // acknowledged or told
	states  []string                           // ever given to SaveState; the last is newest
	state   int                                // states from this one on are acknowledged or told
	node    string
	floor   version.Timestamp
	clock   int
	phase   phase
	saved   bool  // there has been a checkpoint, so that Open need not read all files
	wrong   error // found before the check

	past    []generation // what was set aside, the oldest first
	leaving *generation  // what may have been set aside, as the next open shows
}

// generation is what a witness knew of the records of a store that was set aside.
type generation struct {
	asked            map[version.Dot]replication.Record
	atLeast, dropped map[string]version.Version
	aside            Aside
	saved            bool // there was a state "peers" to move
	done             bool // SetAside said so
}

// phase is what a store is doing, as far as it decides which syncs are needed.
type phase int

const (
	running phase = iota
	opening
	uniting
	leaving
)

func newWitness() *witness {
	w := &witness{state: -1}
	w.forget()
	return w
}

// forget begins anew, but for what survives that data is set aside.
func (w *witness) forget() {
	w.saved = false
	w.asked, w.dots = map[version.Dot]replication.Record{}, new(seen.Set)
	w.atLeast, w.dropped = map[string]version.Version{}, map[string]version.Version{}
}

// run uses a store as a node would, as far as it gets, and notes what came of it.
func (w *witness) run(s *Store, rounds int) {
	w.clock += 1000
	origin := uint64(w.clock)
	_, err := s.Begin(origin)
	begun := err == nil
	next := func(key, value string) replication.Record {
		w.clock++
		r := replication.Record{Key: key, Deleted: value == "", Value: []byte(value)}
		r.Version.Wall = int64(w.clock)
		r.Version.Dot = version.Dot{Origin: origin, Counter: uint64(w.clock) - origin}
		w.asked[r.Version.Dot] = r
		return r
	}
	apply := func(batch ...replication.Record) {
		for i, o := range s.Apply(batch) {
			if o.Err != nil {
				continue
			}
			w.dots.Add(batch[i].Version.Dot)
			w.tell(batch[i].Key, o.Current.Version)
			if begun && batch[i].Version.Timestamp.Compare(w.floor) > 0 {
				w.floor = batch[i].Version.Timestamp
			}
		}
		w.look(s)
	}
	for i := range rounds {
		superseded := next("a", "superseded")
		apply(next("a", fmt.Sprint("single ", i)))
		apply(superseded)
		apply(next("a", "twice"), next("b", "in a batch"), next("a", "again"), next("Dd", strings.Repeat("long ", 20)))
		apply(next("b", ""))
		w.drop(s)
		apply(next("last", "in a directory of its own"))
		if s.checkpoints.do(s.checkpoint) == nil {
			w.saved = true
		}
		w.unite(s)
		w.save(s, fmt.Sprint("state ", w.clock))
	}
}

// drop has s drop all its tombstones.
func (w *witness) drop(s *Store) {
	for key, v := range s.Tombstones() {
		w.dropped[key] = v
		done, err := s.Drop(key, v)
		if _, lookup := s.Lookup(key); done != errors.Is(lookup, replication.ErrNotFound) || done && err != nil {
			w.wrong = fmt.Errorf("drop %s at %v: %v, %w, then %w", key, v, done, err, lookup)
		}
	}
	w.look(s)
}

// unite marks dots of other nodes, with a hole, as seen.
func (w *witness) unite(s *Store) {
	w.clock += 3
	dots := seen.Of(version.Dot{Origin: 1, Counter: uint64(w.clock)}, version.Dot{Origin: uint64(w.clock), Counter: 1})
	w.phase = uniting
	err := s.Unite(dots)
	w.phase = running
	if err == nil {
		w.dots.Union(dots)
	}
	w.look(s)
}

func (w *witness) save(s *Store, state string) {
	w.states = append(w.states, state)
	if s.SaveState("roster", []byte(state)) == nil {
		w.state = len(w.states) - 1
	}
}

func (w *witness) tell(key string, v version.Version) {
	if v.Compare(w.atLeast[key]) > 0 {
		w.atLeast[key] = v
	}
}

// look notes what s tells now.
func (w *witness) look(s *Store) {
	w.dots.Union(s.Seen())
	for key, meta := range s.Scan("") {
		w.tell(key, meta.Version)
	}
	if state, err := s.LoadState("roster"); err == nil && s.Writable() == nil {
		w.state = max(w.state, slices.Index(w.states, string(state)))
	}
}

// check returns what is wrong with s, the store after the last crash.
func (w *witness) check(s *Store) error {
	if w.wrong != nil {
		return w.wrong
	}
	if w.node == "" { // the first process got as far as drawing one, or not
		w.node = s.NodeID()
	}
	if w.saved && s.saved.Load() == 0 {
		return errors.New("open found no save")
	}
	if s.NodeID() != w.node {
		return fmt.Errorf("node id changed from %s to %s", w.node, s.NodeID())
	}
	for _, r := range w.asked {
		if err := w.checkKey(s, r.Key); err != nil {
			return err
		}
	}
	has := s.Seen()
	if n := w.dots.Missing(has); n > 0 {
		return fmt.Errorf("seen set forgot %d dots: was %v, is %v", n, w.dots, has)
	}
	for d, r := range w.asked {
		current, err := s.Lookup(r.Key)
		if errors.Is(err, replication.ErrNotFound) && r.Version.Compare(w.dropped[r.Key]) <= 0 {
			continue
		}
		if has.Has(d) && (err != nil || current.Version.Compare(r.Version) < 0) {
			return fmt.Errorf("dot %v of %s is told but its record is not there: %v, %v", d, r.Key, current, err)
		}
	}
	state, err := s.LoadState("roster")
	if err != nil && (w.state >= 0 || !errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("state: %w", err)
	}
	if i := slices.Index(w.states, string(state)); err == nil && i < max(0, w.state) {
		return fmt.Errorf("state went back to %q (%d of %d)", state, i, w.state)
	}
	w.clock += 1000
	if floor, err := s.Begin(uint64(w.clock)); err != nil || floor.Compare(w.floor) < 0 {
		return fmt.Errorf("clock floor is %v, %v, after %v was stamped", floor, err, w.floor)
	}
	return nil
}

func (w *witness) checkKey(s *Store, key string) error {
	r, err := s.Get(key)
	if errors.Is(err, replication.ErrNotFound) && w.atLeast[key].Compare(w.dropped[key]) <= 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if r.Version.Compare(w.atLeast[key]) < 0 {
		return fmt.Errorf("%s went down from %v to %v", key, w.atLeast[key], r.Version)
	}
	want := w.asked[r.Version.Dot]
	if want.Version != r.Version || want.Deleted != r.Deleted || !bytes.Equal(want.Value, r.Value) {
		return fmt.Errorf("%s: got %v, which was never written", key, r)
	}
	return nil
}

// crash is one way for a run to end early.
type crash struct {
	step  int   // at which step of the run, from 0
	err   error // what the step returns; nil: the process dies there
	after bool  // the error comes after the step was done
	seed  uint64
	aside *Aside // how the data is set aside in the middle of the run, unless nil
	kill  bool   // first the process alone is killed, another one opens the directory, and then the power is cut
	again int    // at which step, from 1, that other one is killed while it opens; 0: it is not
}

// suffer runs a store into a crash and returns what is wrong afterwards. lies says which steps
// of which phase only pretend to be done. It returns false if all is over before the step.
func (c crash) suffer(lies func(step, phase) bool) (hit bool, err error) {
	files := newMemFS()
	steps, w := 0, newWitness()
	files.on = func(s step) error {
		steps++
		if !hit && steps == c.step+1 {
			hit = true
			switch {
			case c.after:
				return lateError{c.err}
			case c.err != nil:
				return c.err
			}
			files.kill()
			return errDead
		}
		if c.again > 0 && hit && w.phase == opening {
			if c.again--; c.again == 0 {
				files.kill()
				return errDead
			}
		}
		if lies != nil && lies(s, w.phase) {
			return errLie
		}
		return nil
	}
	var log bytes.Buffer
	open := func() (*Store, error) {
		w.phase = opening
		defer func() { w.phase = running }()
		cfg := tiny(files)
		cfg.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Error})
		s, err := Open(cfg)
		if err == nil && strings.Contains(log.String(), "journal is damaged") {
			err = fmt.Errorf("a crash was taken for damage: %s", &log)
		}
		if err == nil {
			w.opened(s)
		}
		return s, err
	}
	if !c.live(w, open) && hit && !isFull(c.err) {
		return true, fmt.Errorf("nobody noticed: %v", c.err)
	}
	if !hit {
		return false, nil
	}
	random := rand.New(rand.NewPCG(c.seed, uint64(c.step)))
	if c.kill {
		files = files.kill()
		interrupted := c.again > 0
		s, err := open()
		if c.again > 0 {
			return false, nil
		}
		if interrupted {
			files.kill()
		} else if err != nil {
			return hit, fmt.Errorf("open after kill: %w", err)
		} else if err := c.goOn(w, s); err != nil {
			return hit, fmt.Errorf("after kill: %w", err)
		}
	}
	files = files.cut(random)
	s, err := open()
	if err != nil {
		return hit, fmt.Errorf("open after power cut: %w", err)
	}
	if err := w.check(s); err != nil {
		return hit, fmt.Errorf("after power cut: %w", err)
	}
	return hit, s.Close()
}

// goOn uses the store after a kill. A check begins, and the sync of that covers others.
func (c crash) goOn(w *witness, s *Store) error {
	w.look(s)
	if c.seed%2 == 0 {
		if err := w.check(s); err != nil {
			return err
		}
	}
	if c.seed%4 > 1 {
		w.run(s, 1)
	}
	return nil
}

// live is the run, which a crash may end. It reports whether any of it failed.
func (c crash) live(w *witness, open func() (*Store, error)) (failed bool) {
	s, err := open()
	if err != nil {
		return true
	}
	w.node = s.NodeID()
	if c.aside == nil {
		w.run(s, 2)
	} else {
		w.run(s, 1)
		failed = s.Writable() != nil
		failed = w.setAside(s, *c.aside) != nil || failed
		if s, err = open(); err != nil {
			return true
		}
		w.run(s, 1)
	}
	return s.Close() != nil || s.Writable() != nil || failed
}

// sweep crashes like c at its step and every later one in turn, with all seeds, with and without a kill first,
// and returns how many steps there are and the first thing that is wrong.
func sweep(c crash, seeds uint64, lies func(step, phase) bool) (steps int, err error) {
	for first := c.step; ; c.step++ {
		for c.seed = range seeds {
			for _, c.kill = range []bool{false, true} {
				hit, err := c.suffer(lies)
				if err != nil {
					return c.step - first, fmt.Errorf("crash %+v: %w", c, err)
				}
				if !hit {
					return c.step - first, nil
				}
			}
		}
	}
}

func TestACrashAtAnyStepLosesNothingAcknowledgedOrTold(t *testing.T) {
	steps, err := sweep(crash{}, 5, nil)
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d steps", steps)
	if steps < 100 {
		t.Errorf("got %d steps, want a run of 100 at least", steps)
	}
}

func TestAnErrorAtAnyStepIsReportedAndLosesNothing(t *testing.T) {
	for _, c := range []crash{{err: syscall.EIO}, {err: syscall.EIO, after: true}, {err: syscall.ENOSPC}} {
		if _, err := sweep(c, 2, nil); err != nil {
			t.Error(err)
		}
	}
}

// TestEachSyncIsNeeded takes the syncs out one at a time. The sweep that finds nothing wrong
// with all of them must find something then. Those of single steps that only a rarer story needs
// have tests of their own; DESIGN.md lists all.
func TestEachSyncIsNeeded(t *testing.T) {
	matches := func(op, pattern string) func(step) bool {
		return func(s step) bool {
			ok, _ := path.Match(pattern, s.name)
			return s.op == op && ok
		}
	}
	mutants := map[string]struct {
		is    func(step) bool
		phase phase
	}{
		"header of a segment":               {is: matches("sync", "journal/spare")},
		"entry of the journal":              {is: matches("sync", "journal/0*")},
		"name of a segment":                 {is: matches("syncdir", "journal")},
		"files of a checkpoint":             {is: matches("syncall", "keys")},
		"content of a save":                 {is: matches("sync", "index-?")},
		"name of a save":                    {is: matches("syncdir", ".")},
		"content of a state file":           {is: matches("sync", "tmp/*-state")},
		"name of a state file":              {is: matches("syncdir", "state")},
		"content of the format at open":     {is: matches("sync", "format.new"), phase: opening},
		"content of the node id at open":    {is: matches("sync", "tmp/*-node"), phase: opening},
		"names at the top at open":          {is: matches("syncdir", "."), phase: opening},
		"names of segments at open":         {is: matches("syncdir", "journal"), phase: opening},
		"last entry of the journal at open": {is: matches("sync", "journal/0*"), phase: opening},
		"names of state files at open":      {is: matches("syncdir", "state"), phase: opening},
	}
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		t.Run(name, func(t *testing.T) {
			m, skipped := mutants[name], false
			_, err := sweep(crash{}, 12, func(s step, now phase) bool {
				lie := now == m.phase && m.is(s)
				skipped = skipped || lie
				return lie
			})
			if !skipped {
				t.Fatal("there is no such sync")
			}
			if err == nil {
				t.Error("nothing went wrong without this sync")
			} else {
				t.Log(err)
			}
		})
	}
}

// TestAnEntryThatWasNeverSyncedIsDurableOnceItIsTold: it is the last one in its segment, and the
// next segment is there, of the length that the new process would give it or of another.
func TestAnEntryThatWasNeverSyncedIsDurableOnceItIsTold(t *testing.T) {
	for _, segment := range []int64{1 << 10, 2 << 10} {
		for seed := range uint64(20) {
			files := newMemFS()
			s := mustOpen(t, tiny(files))
			apply(t, s, put("a", 1, "v"))
			if err := s.journal.Prepare(); err != nil {
				t.Fatal(err)
			}
			files.on = func(s step) error {
				if ok, _ := path.Match("journal/0*", s.name); ok && s.op == "sync" {
					files.kill()
					return errDead
				}
				return nil
			}
			if o := s.Apply([]replication.Record{put("a", 2, "v")})[0]; o.Err == nil {
				t.Fatal("a dead process acknowledged a write")
			}
			files.on = nil
			files = files.kill()
			cfg := tiny(files)
			cfg.segmentBytes = segment
			told, err := mustOpen(t, cfg).Lookup("a")
			if err != nil {
				t.Fatal(err)
			}
			got, err := mustOpen(t, tiny(files.cut(rand.New(rand.NewPCG(seed, 0))))).Lookup("a")
			if err != nil || got.Version.Compare(told.Version) < 0 {
				t.Fatalf("segments of %d bytes, seed %d: got %v, %v, after %v was told", segment, seed, got.Version, err, told.Version)
			}
		}
	}
}

// TestASegmentWhoseNameWasNeverSyncedIsDurableOnceItIsWrittenTo: the process that prepared it died
// before it synced the name, and the next one has no reason to prepare another.
func TestASegmentWhoseNameWasNeverSyncedIsDurableOnceItIsWrittenTo(t *testing.T) {
	for seed := range uint64(20) {
		files := newMemFS()
		s := mustOpen(t, tiny(files))
		apply(t, s, put("a", 1, "v"))
		files.on = func(s step) error {
			if s.op == "syncdir" && s.name == journalDir {
				files.kill()
				return errDead
			}
			return nil
		}
		if err := s.journal.Prepare(); err == nil {
			t.Fatal("there was nothing to prepare")
		}
		files.on = nil
		files = files.kill()
		s = mustOpen(t, tiny(files))
		_, first := s.journal.Segments()
		n := 1
		for current := first; current == first; _, current = s.journal.Segments() {
			n++
			apply(t, s, put("a", n, "a value of some length"))
		}
		got, err := mustOpen(t, tiny(files.cut(rand.New(rand.NewPCG(seed, 0))))).Lookup("a")
		if err != nil || got.Version != at(n) {
			t.Fatalf("seed %d: got %v, %v, want %v, which was acknowledged", seed, got.Version, err, at(n))
		}
	}
}

// TestARecordThatIsOnlyInItsFileIsDurableOnceItIsTold: there is no save and no journal, and the
// process that wrote the file died before its first checkpoint.
func TestARecordThatIsOnlyInItsFileIsDurableOnceItIsTold(t *testing.T) {
	for seed := range uint64(20) {
		files := newMemFS()
		s := mustOpen(t, tiny(files))
		apply(t, s, put("a", 1, "v"))
		if err := s.filing.do(s.file); err != nil {
			t.Fatal(err)
		}
		files = files.kill()
		lost := newDir()
		files.root.names[journalDir], files.root.durable[journalDir] = lost, lost
		told, err := mustOpen(t, tiny(files)).Lookup("a")
		if err != nil {
			t.Fatal(err)
		}
		got, err := mustOpen(t, tiny(files.cut(rand.New(rand.NewPCG(seed, 0))))).Get("a")
		if err != nil || got.Version != told.Version {
			t.Fatalf("seed %d: got %v, %v, after %v was told", seed, got.Version, err, told.Version)
		}
	}
}

// TestADirectoryThatIsMissingIsDurableOnceItIsWrittenTo: an old copy need not have all of them.
func TestADirectoryThatIsMissingIsDurableOnceItIsWrittenTo(t *testing.T) {
	for seed := range uint64(20) {
		files := newMemFS()
		s := mustOpen(t, tiny(files))
		for n := range saveFiles {
			apply(t, s, put("a", n+1, "v"))
			if err := s.checkpoints.do(s.checkpoint); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, s)
		files = files.cut(rand.New(rand.NewPCG(seed, 0)))
		delete(files.root.names, journalDir)
		delete(files.root.durable, journalDir)
		apply(t, mustOpen(t, tiny(files)), put("a", 9, "v"))
		got, err := mustOpen(t, tiny(files.cut(rand.New(rand.NewPCG(seed, 0))))).Lookup("a")
		if err != nil || got.Version != at(9) {
			t.Fatalf("seed %d: got %v, %v, want %v, which was acknowledged", seed, got.Version, err, at(9))
		}
	}
}
