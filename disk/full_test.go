package disk

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication"
)

// needsRoom reports whether a step takes room that the disk did not give before.
func (m *memFS) needsRoom(s step) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch s.op {
	case "create":
		return true
	case "write":
		return s.name != logFile
	case "mkdir", "rename":
		n, _, _ := m.find(s.name)
		return n == nil
	}
	return false
}

// never is a step that no life gets to.
const never = 1 << 30

// fullDisk is a life of a few processes on a disk that at some step becomes full and stays so,
// not even giving the room of removed files back.
type fullDisk struct {
	at, killAt int // the disk is full, and the process dies, from this step on, from 0
	seed       uint64
	lies       func(step, phase) bool

	files  *memFS
	w      *witness
	steps  int
	opened bool // once, so that it must open from then on
}

func (l *fullDisk) hook(s step) error {
	l.steps++
	if l.steps == l.killAt+1 {
		l.files.kill()
		return errDead
	}
	if l.steps > l.at && l.files.needsRoom(s) {
		return syscall.ENOSPC
	}
	if l.lies != nil && l.lies(s, l.w.phase) {
		return errLie
	}
	return nil
}

func (l *fullDisk) open() (*Store, error) {
	l.w.phase = opening
	defer func() { l.w.phase = running }()
	s, err := Open(Config{fs: l.files, logEntries: 32, reserveBytes: 100})
	if err == nil {
		l.opened = true
	}
	return s, err
}

// live runs three processes one after the other and returns what is wrong. It ends early if
// one of them is killed.
func (l *fullDisk) live() error {
	for range 3 {
		s, err := l.open()
		switch {
		case l.killed(), err != nil && !l.opened && isFull(err): // a full disk takes no new store
			return nil
		case err != nil:
			return fmt.Errorf("open: %w", err)
		}
		if err := l.w.check(s); err != nil && !l.killed() {
			return err
		}
		l.w.run(s, 2)
		seen, metas, unwritable := s.Seen(), maps.Collect(s.Scan("")), s.Writable()
		err = s.Close()
		if l.killed() {
			return nil
		}
		if err != nil || errors.Is(unwritable, replication.ErrReadOnly) {
			return fmt.Errorf("close: %w, after %w", err, unwritable)
		}
		if s, err = l.open(); l.killed() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("open again: %w", err)
		}
		if got := maps.Collect(s.Scan("")); !s.Seen().Equal(seen) || !maps.Equal(got, metas) {
			return fmt.Errorf("opened again: got %v, seen %v, want %v, seen %v", got, s.Seen(), metas, seen)
		}
		if err := s.Close(); err != nil && !l.killed() {
			return fmt.Errorf("close again: %w", err)
		}
	}
	return nil
}

func (l *fullDisk) killed() bool {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	return l.files.dead
}

// suffer lives, kills, cuts the power, makes room, and looks each time. It returns how many
// steps the life had.
func (l fullDisk) suffer() (steps int, err error) {
	l.files, l.w = newMemFS(), newWitness()
	l.files.on = l.hook
	if err := l.live(); err != nil {
		return l.steps, err
	}
	steps = l.steps
	l.at, l.killAt = min(l.at, l.steps), never
	for _, after := range []string{"kill", "power cut", "room"} {
		switch after {
		case "kill":
			l.files = l.files.kill()
		case "power cut":
			l.files = l.files.cut(rand.New(rand.NewPCG(l.seed, uint64(steps))))
		case "room":
			l.files = l.files.kill()
			l.at = never
		}
		s, err := l.open()
		if err != nil {
			if !l.opened && isFull(err) {
				continue
			}
			return steps, fmt.Errorf("open after %s: %w", after, err)
		}
		l.w.look(s)
		if after == "kill" && l.seed > 0 { // a check begins, and the sync of that covers others
			continue
		}
		if err := l.w.check(s); err != nil {
			return steps, fmt.Errorf("after %s: %w", after, err)
		}
		if after == "room" {
			l.w.run(s, 1)
			return steps, errors.Join(s.Writable(), l.w.check(s), s.Close())
		}
	}
	return steps, nil
}

func TestADiskThatIsFullFromAnyStepOnOpensClosesAndForgetsNothing(t *testing.T) {
	whole, err := fullDisk{at: never, killAt: never}.suffer()
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		if _, err := (fullDisk{at: at, killAt: never}).suffer(); err != nil {
			t.Fatalf("full from step %d on: %v", at, err)
		}
	}
	if whole < 100 {
		t.Errorf("got %d steps, want a life of 100 at least", whole)
	}
}

// killOnFullDisk kills at any step of lives on disks that are full from every stride-th step on.
func killOnFullDisk(t *testing.T, stride int, lies func(step, phase) bool) error {
	whole, err := fullDisk{at: never, killAt: never}.suffer()
	if err != nil {
		t.Fatal(err)
	}
	for at := 30; at < whole; at += stride {
		for kill, over := at, false; !over; kill++ {
			for seed := range uint64(3) {
				steps, err := fullDisk{at: at, killAt: kill, seed: seed, lies: lies}.suffer()
				if err != nil {
					return fmt.Errorf("full from step %d on, killed at %d, seed %d: %w", at, kill, seed, err)
				}
				over = steps <= kill
			}
		}
	}
	return nil
}

func TestACrashOnAFullDiskLosesNothing(t *testing.T) {
	if err := killOnFullDisk(t, 71, nil); err != nil {
		t.Error(err)
	}
}

func TestALogThatIsKeptMustBeSyncedAtOpen(t *testing.T) {
	err := killOnFullDisk(t, 7, func(s step, now phase) bool {
		return now == opening && s.op == "sync" && s.name == logFile
	})
	if err == nil {
		t.Error("nothing went wrong without the sync")
	}
	t.Log(err)
}

// TestAFullLogOnAFullDiskRefusesWritesAndIsNeverOverwritten fills all that there is, with dots
// that need no room but in the log, restarting now and then.
func TestAFullLogOnAFullDiskRefusesWritesAndIsNeverOverwritten(t *testing.T) {
	files := newMemFS()
	var log bytes.Buffer
	cfg := Config{fs: files, logEntries: 32, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}
	s := mustOpen(t, cfg)
	apply(t, s, put("a", 1000, "newest"))
	for n := range 20 { // entries that a snapshot takes in and that stay behind in the log
		apply(t, s, put("a", n+1, "superseded"))
	}
	mustClose(t, s)
	files.on = func(s step) error {
		if files.needsRoom(s) {
			return syscall.ENOSPC
		}
		return nil
	}
	restart := func() {
		t.Helper()
		before := s.Seen()
		mustClose(t, s)
		if got := strings.Count(log.String(), "no room for a snapshot"); got > 1 {
			t.Errorf("got %d warnings from one process, want 1 at most:\n%s", got, &log)
		}
		log.Reset()
		s = mustOpen(t, cfg)
		if got := s.Seen(); !got.Equal(before) {
			t.Fatalf("seen after a restart: got %v, want %v", got, before)
		}
		if r, err := s.Get("a"); err != nil || string(r.Value) != "newest" {
			t.Fatalf("get: got %v, %v, want it to go on", r, err)
		}
	}
	noted := 0
	for n := 100; n < 200; n++ {
		if n%5 == 0 {
			restart()
		}
		err := s.Apply([]replication.Record{put("a", n, "superseded")})[0].Err
		if err != nil {
			if !errors.Is(err, replication.ErrDiskFull) || errors.Is(err, replication.ErrReadOnly) {
				t.Errorf("full log: got %v, want ErrDiskFull", err)
			}
			break
		}
		noted++
	}
	if noted < 24 || noted > 32 {
		t.Errorf("%d versions were noted in a log of 32", noted)
	}
	for origin := uint64(50); ; origin++ { // a process can begin, until there is nothing left at all
		restart()
		if origin > 50+32 {
			t.Fatal("a log of 32 took more entries than that, so it lost some")
		}
		if _, err := s.Begin(origin); err != nil {
			if !errors.Is(err, replication.ErrDiskFull) || errors.Is(err, replication.ErrReadOnly) || origin < 55 {
				t.Errorf("begin with %d: got %v, want ErrDiskFull after a few", origin, err)
			}
			break
		}
	}
	restart()

	files.on = nil
	apply(t, s, put("a", 500, "superseded"))
	restart()
	if !s.Seen().Has(at(500).Dot) || s.Writable() != nil {
		t.Errorf("with room again: got %v, %v", s.Seen(), s.Writable())
	}
}

// TestAFloorIsKeptForRecordsWithNoRoomInTheLog takes away what the log tells of own records.
func TestAFloorIsKeptForRecordsWithNoRoomInTheLog(t *testing.T) {
	files := newMemFS()
	cfg := Config{fs: files, logEntries: 2}
	s := mustOpen(t, cfg)
	if _, err := s.Begin(at(1).Origin); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, cfg)
	files.on = func(s step) error { // the records get to the disk, their entries do not
		if s.op == "create" && strings.HasSuffix(s.name, "-seen") {
			return syscall.EIO
		}
		return nil
	}
	var batch []replication.Record
	for n := range 10 {
		batch = append(batch, put(fmt.Sprint("k", n), n+1, "v"))
	}
	for _, o := range s.Apply(batch) {
		if !errors.Is(o.Err, replication.ErrReadOnly) {
			t.Fatalf("apply: got %v, want ErrReadOnly", o.Err)
		}
	}
	files = files.kill()
	files.on = func(s step) error {
		if files.needsRoom(s) {
			return syscall.ENOSPC
		}
		return nil
	}
	cfg.fs = files
	s = mustOpen(t, cfg)
	floor, err := s.Begin(99)
	if want := at(10).Timestamp; err != nil || floor.Compare(want) < 0 {
		t.Errorf("floor: got %v, %v, want %v", floor, err, want)
	}
	if s.Len() != 10 {
		t.Errorf("got %d records, want 10", s.Len())
	}
}
