package disk

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
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
	n, _, _ := m.find(s.name)
	switch s.op {
	case "create", "mkdir", "rename":
		return n == nil
	case "write":
		return n == nil || s.end > len(n.data)
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
	cfg := tiny(l.files)
	cfg.segmentBytes = 8 << 10 // with room for many processes to begin
	s, err := Open(cfg)
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
	if err := killOnFullDisk(t, 211, nil); err != nil {
		t.Error(err)
	}
}

// TestAFullJournalOnAFullDiskRefusesWritesAndIsKept fills all that there is, with dots that need
// no room but in the journal, restarting now and then.
func TestAFullJournalOnAFullDiskRefusesWritesAndIsKept(t *testing.T) {
	files := newMemFS()
	var log bytes.Buffer
	cfg := tiny(files)
	cfg.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	s := mustOpen(t, cfg)
	apply(t, s, put("a", 1000, "newest"))
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
		if got := strings.Count(log.String(), "values are refused"); got > 1 {
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
	for n := 100; n < 900; n++ {
		if n%5 == 0 {
			restart()
		}
		err := s.Apply([]replication.Record{put("a", n, "superseded")})[0].Err
		if err != nil {
			if !errors.Is(err, replication.ErrDiskFull) || errors.Is(err, replication.ErrReadOnly) {
				t.Errorf("full journal: got %v, want ErrDiskFull", err)
			}
			break
		}
		noted++
	}
	if noted < 5 || noted > 100 {
		t.Errorf("%d versions were noted in a segment or two", noted)
	}
	for origin := uint64(50); ; origin++ { // a process can begin, until there is nothing left at all
		restart()
		if origin > 50+100 {
			t.Fatal("the journal took more entries than it has room for, so it lost some")
		}
		if _, err := s.Begin(origin); err != nil {
			if !errors.Is(err, replication.ErrDiskFull) || errors.Is(err, replication.ErrReadOnly) || origin < 52 {
				t.Errorf("begin with %d: got %v, want ErrDiskFull after a few", origin, err)
			}
			break
		}
	}
	restart()

	files.on = nil
	apply(t, s, put("a", 950, "superseded"), put("b", 951, "value"))
	restart()
	if !s.Seen().Has(at(950).Dot) || s.Writable() != nil {
		t.Errorf("with room again: got %v, %v", s.Seen(), s.Writable())
	}
}

// TestAReserveThatFindsNoRoomAtItsSyncIsNone: file systems that find room for what was written
// only when it is synced tell of it there.
func TestAReserveThatFindsNoRoomAtItsSyncIsNone(t *testing.T) {
	files := newMemFS()
	files.on = func(s step) error {
		if ok, _ := path.Match("tmp/*-reserve", s.name); ok && s.op == "sync" {
			return syscall.ENOSPC
		}
		return nil
	}
	s := mustOpen(t, tiny(files))
	if o := s.Apply([]replication.Record{put("a", 1, "v")})[0]; !errors.Is(o.Err, replication.ErrDiskFull) || errors.Is(o.Err, replication.ErrReadOnly) {
		t.Errorf("without a reserve: got %v, want ErrDiskFull", o.Err)
	}
	files.on = nil
	apply(t, s, put("a", 1, "v"))
}
