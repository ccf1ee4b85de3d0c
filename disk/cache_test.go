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
	s := mustOpen(t, Config{fs: newMemFS()})
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
	s := mustOpen(t, Config{fs: newMemFS()})
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

func TestASecondReadOpensNoFile(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("foo", 1, "value"))
	if err := s.round(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, err := s.Get("foo"); err != nil || string(r.Value) != "value" {
			t.Fatalf("got %q, %v", r.Value, err)
		}
		files.on = func(st step) error { return fmt.Errorf("step %v of a read that needs none", st) }
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
