package replication_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

func openMemory(t testing.TB, s *states) *replication.Memory {
	t.Helper()
	m, err := replication.OpenMemory(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// dots returns the set of the first n dots of an origin.
func dots(origin uint64, n uint64) *seen.Set {
	s := new(seen.Set)
	for i := range n {
		s.Add(version.Dot{Origin: origin, Counter: i + 1})
	}
	return s
}

func wantSet(t testing.TB, what string, got, want *seen.Set) {
	t.Helper()
	if !got.Equal(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// Else a tombstone could be collected because of something that a crash makes forgotten.
func TestWhatWasPulledIsRememberedOnlyOnceItIsDurable(t *testing.T) {
	var disk states
	m := openMemory(t, &disk)
	m.Pull("b", 0, dots(1, 5))
	wantSet(t, "pulled before it is saved", m.Pulled("b"), dots(1, 0))
	disk.fail(errors.New("input/output error"))
	if err := m.Save(); err == nil {
		t.Error("saved on a disk that fails")
	}
	wantSet(t, "pulled after a save that failed", m.Pulled("b"), dots(1, 0))
	disk.fail(nil)
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	wantSet(t, "pulled", m.Pulled("b"), dots(1, 5))
	m.Pull("b", 0, dots(1, 7))
	wantSet(t, "pulled, with more that is not saved", m.Pulled("b"), dots(1, 5))
	wantSet(t, "pulled, after a crash", openMemory(t, &disk).Pulled("b"), dots(1, 5))
}

func TestWhatWasToldIsKnownAtOnceAndAfterARestart(t *testing.T) {
	var disk states
	m := openMemory(t, &disk)
	m.Tell("b", 0, dots(1, 5))
	m.Tell("b", 0, dots(2, 3)) // less of the one origin: all that was ever told counts
	m.Pull("b", 0, dots(3, 1)) // who pulled was told, too
	want := dots(1, 5)
	want.Union(dots(2, 3))
	want.Union(dots(3, 1))
	wantSet(t, "told", m.Told("b"), want)
	wantSet(t, "told by another", m.Told("c"), dots(1, 0))
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	again := openMemory(t, &disk)
	wantSet(t, "told, after a restart", again.Told("b"), want)
	wantSet(t, "pulled, after a restart", again.Pulled("b"), dots(3, 1))
}

func TestNodesThatAreGoneAreForgotten(t *testing.T) {
	var disk states
	m := openMemory(t, &disk)
	for _, id := range []string{"b", "c", "d"} {
		m.Tell(id, 0, dots(1, 5))
		m.Pull(id, 0, dots(1, 3))
	}
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	m.Keep(func(id string) bool { return id != "c" })
	m.Tell("d", 1, dots(1, 0)) // it gave up its data
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*replication.Memory{m, openMemory(t, &disk)} {
		for id, want := range map[string]uint64{"b": 5, "c": 0, "d": 0} {
			wantSet(t, "told by "+id, m.Told(id), dots(1, want))
			wantSet(t, "pulled from "+id, m.Pulled(id), dots(1, min(3, want)))
		}
	}
}

func TestMemoryIsSavedOnlyIfItChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var disk states
		m := openMemory(t, &disk)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		tell := func(n uint64, d time.Duration) {
			for range d / time.Second {
				m.Tell("b", 0, dots(1, n))
				m.Pull("b", 0, dots(1, n))
				time.Sleep(time.Second)
			}
		}
		time.Sleep(time.Minute + time.Second/2) // so that nothing is told while it is saved
		if got := disk.saved(); got != 0 {
			t.Errorf("idle from the start: %d saves, want none", got)
		}
		tell(5, 10*time.Minute)
		if got := disk.saved(); got != 1 {
			t.Errorf("told the same for ten minutes: %d saves, want 1", got)
		}
		disk.fail(errors.New("input/output error"))
		tell(6, time.Minute)
		disk.fail(nil)
		tell(6, time.Minute)
		if got := disk.saved(); got != 2 {
			t.Errorf("after a disk that failed for a while: %d saves, want 2", got)
		}
		m.Tell("b", 0, dots(1, 7))
		cancel()
		<-done
		wantSet(t, "told before the end", openMemory(t, &disk).Told("b"), dots(1, 7))
	})
}

// The second implementation remembers nothing but lists of what happened.
func TestMemoryIsWhatHappenedAndSurvivesCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var disk states
		m, err := replication.OpenMemory(&disk, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{"b", "c", ""}
		type past struct{ told, pulled map[string][]*seen.Set }
		empty := func() past { return past{make(map[string][]*seen.Set), make(map[string][]*seen.Set)} }
		copied := func(p past) past {
			q := empty()
			for _, id := range ids {
				q.told[id] = append(q.told[id], p.told[id]...)
				q.pulled[id] = append(q.pulled[id], p.pulled[id]...)
			}
			return q
		}
		now, saved := empty(), empty()
		life := make(map[string]uint64) // of each node's data
		heard, savedLife := make(map[string]uint64), make(map[string]uint64)
		hear := func(id string) { // what it told before it gave up its data is void
			if life[id] > heard[id] {
				heard[id] = life[id]
				delete(now.told, id)
				delete(now.pulled, id)
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			id := rapid.SampledFrom(ids).Draw(t, "id")
			set := seen.Of(version.Dot{
				Origin: rapid.Uint64Range(1, 3).Draw(t, "origin"), Counter: rapid.Uint64Range(1, 9).Draw(t, "counter"),
			})
			switch rapid.SampledFrom([]string{"tell", "tell", "pull", "pull", "save", "save", "crash", "give up"}).Draw(t, "what") {
			case "tell":
				m.Tell(id, life[id], set)
				if life[id] > 0 {
					m.Tell(id, life[id]-1, seen.Of(version.Dot{Origin: 9, Counter: 9})) // void
				}
				hear(id)
				now.told[id] = append(now.told[id], set)
			case "pull":
				m.Pull(id, life[id], set)
				hear(id)
				now.told[id] = append(now.told[id], set)
				now.pulled[id] = append(now.pulled[id], set)
			case "save":
				if err := m.Save(); err != nil {
					t.Fatal(err)
				}
				saved, savedLife = copied(now), maps.Clone(heard)
			case "crash":
				if m, err = replication.OpenMemory(&disk, nil); err != nil {
					t.Fatal(err)
				}
				now, heard = copied(saved), maps.Clone(savedLife)
			case "give up":
				life[id]++
			}
		}
		union := func(sets []*seen.Set) *seen.Set {
			all := new(seen.Set)
			for _, s := range sets {
				all.Union(s)
			}
			return all
		}
		if err := m.Save(); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if got, want := m.Told(id), union(now.told[id]); !got.Equal(want) {
				t.Fatalf("told by %q: got %v, want %v", id, got, want)
			}
			if got, want := m.Pulled(id), union(now.pulled[id]); !got.Equal(want) {
				t.Fatalf("pulled from %q: got %v, want %v", id, got, want)
			}
		}
	})
}

func TestMemoryThatMakesNoSenseIsAnError(t *testing.T) {
	var good states
	m := openMemory(t, &good)
	m.Pull("b", 0, dots(1, 5))
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	saved, _ := good.LoadState("peers")
	for name, data := range map[string][]byte{
		"empty": {}, "other form": append([]byte{2}, saved[1:]...), "cut short": saved[:len(saved)-1], "too long": append(saved, 9),
	} {
		var bad states
		if err := bad.SaveState("peers", data); err != nil {
			t.Fatal(err)
		}
		if _, err := replication.OpenMemory(&bad, nil); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// A node that gives up its data says so by a higher life, but only once it has: a process that
// ends before that still has the data, and must be found out if it is an old copy.
func TestNextLifeBeginsOnlyWhenTheRestIsGone(t *testing.T) {
	var disk states
	if err := openMemory(t, &disk).GiveUp(); err != nil {
		t.Fatal(err)
	}
	life := func() string { text, _ := disk.LoadState("life"); return string(text) }
	openMemory(t, &disk)
	if got := life(); got != "0" {
		t.Errorf("with the data still there: got life %s, want 0", got)
	}
	next, err := disk.LoadState(replication.NextLifeState)
	if err != nil {
		t.Fatal(err)
	}
	disk = states{pieces: map[string][]byte{replication.NextLifeState: next}}
	for range 2 { // also after another restart
		openMemory(t, &disk)
		if got := life(); got != "1" {
			t.Errorf("with the data gone: got life %s, want 1", got)
		}
	}
}

func TestMemoryOfWhatWasCollectedIsDurableOrNotThere(t *testing.T) {
	var state states
	open := func() *replication.Memory {
		m, err := replication.OpenMemory(&state, nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := open()
	one, two := seen.Of(at(1).Dot), seen.Of(at(1).Dot, at(2).Dot)
	if got := m.Collected(); len(got.Origins()) > 0 {
		t.Errorf("at first: got %v, want nothing", got)
	}
	if err := m.Collect(one); err != nil {
		t.Fatal(err)
	}
	fault := errors.New("no room")
	state.fail(fault)
	if err := m.Collect(one); err != nil {
		t.Errorf("what is there: got %v, want no save", err)
	}
	if err := m.Collect(two); !errors.Is(err, fault) || !m.Collected().Equal(one) {
		t.Errorf("on a full disk: got %v with %v, want its error and %v", err, m.Collected(), one)
	}
	state.fail(nil)
	if err := m.Collect(two); err != nil || !m.Collected().Equal(two) || !open().Collected().Equal(two) {
		t.Errorf("got %v with %v, and %v after a restart, want %v", err, m.Collected(), open().Collected(), two)
	}
	for _, nonsense := range []string{"", "\x01", "\x02\x00", "\x01\x00\x00"} {
		if err := state.SaveState("collected", []byte(nonsense)); err != nil {
			t.Fatal(err)
		}
		if _, err := replication.OpenMemory(&state, nil); err == nil {
			t.Errorf("%q: got no error", nonsense)
		}
	}
}
