package disk

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
)

func TestACachedValueIsNeverOlderThanTheIndex(t *testing.T) {
	s := mustOpen(t, Config{fs: newMemFS(), cacheBytes: 1 << 20})
	old, newer := put("foo", 1, "value"), put("foo", 2, "VALUE")
	check := func(when string, want replication.Record) {
		t.Helper()
		if r, err := s.Get("foo"); err != nil || r.Version != want.Version || string(r.Value) != string(want.Value) {
			t.Errorf("%s: got %q at %v, %v, want %q", when, r.Value, r.Version, err, want.Value)
		}
	}
	file := func() {
		t.Helper()
		if err := s.round(); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, s, old)
	file()
	check("from its file", old)
	check("again", old)
	apply(t, s, newer)
	check("written again", newer)
	file()
	s.cache.put(old) // a reader of the old file that was slow
	check("filed again", newer)
	check("once more", newer)
}

func TestADamagedKeyIsNotServedFromTheCache(t *testing.T) {
	s := mustOpen(t, Config{fs: newMemFS(), cacheBytes: 1 << 20})
	apply(t, s, put("foo", 1, "value"))
	if err := s.round(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("foo"); err != nil {
		t.Fatal(err)
	}
	e, _ := s.index.find("foo")
	s.markDamaged(e, errMismatch)
	if r, err := s.Get("foo"); !errors.Is(err, replication.ErrDamaged) {
		t.Errorf("got %q, %v, want ErrDamaged", r.Value, err)
	}
}

func TestValuesAreReadFromMemoryOnceTheyWereReadOrFiled(t *testing.T) {
	files := newMemFS()
	cfg := Config{fs: files, cacheBytes: 1 << 20}
	s := mustOpen(t, cfg)
	read := func(when string, want int) {
		t.Helper()
		reads := 0
		files.onRead = func(name string) error {
			if strings.HasPrefix(name, keysDir) {
				reads++
			}
			return nil
		}
		if r, err := s.Get("foo"); err != nil || string(r.Value) != "value" || reads != want {
			t.Errorf("%s: got %q, %v and %d reads of files, want %d", when, r.Value, err, reads, want)
		}
		files.onRead = nil
	}
	apply(t, s, put("foo", 1, "value"))
	read("when it has no file", 0)
	if err := s.round(); err != nil {
		t.Fatal(err)
	}
	read("when it was filed", 0)
	mustClose(t, s)
	s = mustOpen(t, cfg)
	read("by another process", 1)
	read("again", 0)
}

func TestAValueThatIsOnlyInTheJournalIsKeptOnceItWasRead(t *testing.T) {
	s := mustOpen(t, Config{fs: newMemFS(), cacheBytes: 1 << 20, backlogBytes: 1})
	apply(t, s, put("foo", 1, "value"))
	for range 2 {
		if r, err := s.Get("foo"); err != nil || string(r.Value) != "value" {
			t.Errorf("got %q, %v", r.Value, err)
		}
	}
	if _, kept := s.cache.get("foo", put("foo", 1, "value").Meta()); !kept {
		t.Error("each read takes the journal apart")
	}
	apply(t, s, put("foo", 2, "VALUE"))
	if r, err := s.Get("foo"); err != nil || string(r.Value) != "VALUE" {
		t.Errorf("written again: got %q, %v", r.Value, err)
	}
}

func TestACacheIsBoundedAndForgetsNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := cache{limit: 64 * 300} // each of up to 100 bytes
		newest := make(map[string]replication.Record)
		for n := range rapid.IntRange(1, 300).Draw(t, "steps") {
			key := fmt.Sprint("key", rapid.IntRange(0, 99).Draw(t, "key"))
			if r, known := newest[key]; known && rapid.Bool().Draw(t, "get") {
				got, found := c.get(key, r.Meta())
				if found && string(got.Value) != string(r.Value) {
					t.Fatalf("got %q of %s, want %q", got.Value, key, r.Value)
				}
				continue
			}
			r := put(key, n+1, strings.Repeat("v", rapid.IntRange(0, 150).Draw(t, "size")))
			newest[key] = r
			c.put(r)
			if _, found := c.get(key, r.Meta()); found != ((&cached{record: r}).cost() <= 300) {
				t.Fatalf("%d bytes that were just put: found %v", len(r.Value), found)
			}
			checkCache(t, &c)
		}
	})
}

// checkCache checks the invariants of c.
func checkCache(t *rapid.T, c *cache) {
	bytes := int64(0)
	for key, e := range c.held {
		if bytes += e.cost(); e.record.Key != key || c.slots[e.slot] != e {
			t.Fatalf("%s is held as %s, in the slot of %s", e.record.Key, key, c.slots[e.slot].record.Key)
		}
	}
	if len(c.slots) != len(c.held) || bytes != c.bytes || bytes > c.limit {
		t.Fatalf("%d slots for %d records of %d bytes, %d counted, at most %d", len(c.slots), len(c.held), bytes, c.bytes, c.limit)
	}
}

func TestHotValuesOutliveAScan(t *testing.T) {
	c := cache{limit: 64 * 300}
	hot := put("hot", 1, "value")
	c.put(hot)
	for n := range 1000 {
		if _, found := c.get("hot", hot.Meta()); !found {
			t.Fatalf("a value that is read all the time was gone after %d others were read once", n)
		}
		c.put(put(fmt.Sprint("cold", n), n+2, "value"))
	}
	left := slices.Collect(func(yield func(string) bool) {
		for n := range 900 {
			if _, found := c.get(fmt.Sprint("cold", n), put("", n+2, "value").Meta()); found && !yield(fmt.Sprint(n)) {
				return
			}
		}
	})
	if len(left) > 0 {
		t.Errorf("values %v outlived hundreds that were read later, once like them", left)
	}
}

func TestACacheKeepsNoReferenceToWhatItIsGiven(t *testing.T) {
	c := cache{limit: 1 << 20}
	given := put("foo", 1, "value")
	c.put(given)
	copy(given.Value, "XXXXX")
	if r, found := c.get("foo", given.Meta()); !found || string(r.Value) != "value" {
		t.Errorf("got %q, %v, want what was put", r.Value, found)
	}
}
