package disk

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
)

func TestScrubFindsDamageThatNobodyReads(t *testing.T) {
	for name, damage := range map[string]func(*memFS, *memNode){
		"flipped": func(_ *memFS, n *memNode) { n.data[len(n.data)-1] ^= 1 },
		"gone":    func(m *memFS, _ *memNode) { _ = m.Remove(keyPath("foo")) },
	} {
		synctest.Test(t, func(t *testing.T) {
			files := newMemFS()
			s := mustOpen(t, Config{fs: files})
			apply(t, s, put("foo", 1, "value"))
			apply(t, s, put("bar", 2, "value"))
			mustClose(t, s) // with it in the journal, the file would be mended from that
			files.root.set("journal", nil)
			s, err := Open(Config{fs: files})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get("foo"); err != nil { // it is in the cache from now on
				t.Fatal(err)
			}
			node, _, _ := files.find(keyPath("foo"))
			damage(files, node)
			before := s.Digest()
			if _, err := s.Lookup("foo"); err != nil {
				t.Fatalf("%s: got %v before anybody has read it", name, err)
			}
			time.Sleep(scrubPeriod) // an even pace, or a record a minute if that is more
			synctest.Wait()
			if _, err := s.Lookup("foo"); !errors.Is(err, replication.ErrDamaged) {
				t.Errorf("%s: got %v, want ErrDamaged", name, err)
			}
			if s.Digest() == before {
				t.Errorf("%s: the digest tells nobody", name)
			}
			if _, err := s.Get("bar"); err != nil {
				t.Errorf("%s: another record: got %v", name, err)
			}
			mustClose(t, s)
		})
	}
}

func TestScrubReadsEverythingInAPeriodAndNoFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := newMemFS()
		s := mustOpen(t, Config{fs: files})
		const keys = 3 * scrubStretch / 2
		for i := range keys {
			apply(t, s, put(fmt.Sprintf("key%04d", i), i+1, "value"))
		}
		settle(t, s)
		mustClose(t, s)
		reads := &readsOf{fileSystem: files}
		s, err := Open(Config{fs: reads})
		if err != nil {
			t.Fatal(err)
		}
		reads.forget()
		time.Sleep((2*keys + 3) * maxScrubPause) // from anywhere to the end and all over again
		mustClose(t, s)
		for i := range keys {
			if got := reads.times[keyPath(fmt.Sprintf("key%04d", i))]; got < 1 || got > 3 {
				t.Errorf("key %d: read %d times", i, got)
			}
		}
	})
}

// readsOf counts how often files are read.
type readsOf struct {
	fileSystem
	mu    sync.Mutex // guards times
	times map[string]int
}

func (r *readsOf) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times = make(map[string]int)
}

func (r *readsOf) ReadFile(name string) ([]byte, error) {
	r.mu.Lock()
	if r.times != nil {
		r.times[name]++
	}
	r.mu.Unlock()
	return r.fileSystem.ReadFile(name)
}

// A process that is restarted every day would else read the same first keys again and again.
func TestScrubBeginsAnywhere(t *testing.T) {
	s := mustOpen(t, Config{fs: newMemFS()})
	if got := s.somewhere(); got != "" {
		t.Errorf("without keys: got %q", got)
	}
	const keys = 100
	for i := range keys {
		apply(t, s, put(fmt.Sprintf("user%03d", i), i+1, "value"))
	}
	begins := make(map[string]bool)
	for range 10 * keys {
		begins[s.somewhere()] = true
	}
	if len(begins) < keys*9/10 {
		t.Errorf("of %d keys %d are begun at", keys, len(begins))
	}
}

func TestScrubIsEndedByClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Config{fs: newMemFS()})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		mustClose(t, s) // synctest fails if a goroutine is left
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestScrubIsNoBurdenForLargeValues(t *testing.T) {
	s := mustOpen(t, Config{fs: newMemFS()})
	if got, want := s.scrubPause(100*scrubBytes), 100*time.Second; got != want {
		t.Errorf("a record that takes the disk long: got a pause of %v, want %v", got, want)
	}
	if got := s.scrubPause(1); got != maxScrubPause {
		t.Errorf("few keys: got a pause of %v, want %v", got, maxScrubPause)
	}
}
