package seen_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// naive is the obvious second implementation that Set is compared with.
type naive map[version.Dot]bool

func (n naive) missing(m naive) (total uint64) {
	for d := range n {
		if !m[d] {
			total++
		}
	}
	return total
}

func (n naive) set() *seen.Set {
	s := new(seen.Set)
	for d := range n {
		s.Add(d)
	}
	return s
}

func generate(t *rapid.T, label string) naive {
	dots := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) version.Dot {
		return version.Dot{Origin: rapid.Uint64Range(1, 3).Draw(t, "origin"), Counter: rapid.Uint64Range(1, 12).Draw(t, "counter")}
	}), 0, 30).Draw(t, label)
	n := naive{}
	for _, d := range dots {
		n[d] = true
	}
	return n
}

func TestSetAgreesWithTheNaiveSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := generate(t, "a"), generate(t, "b")
		sa, sb := a.set(), b.set()
		for origin := range uint64(4) {
			last := uint64(0)
			for counter := range uint64(14) {
				d := version.Dot{Origin: origin, Counter: counter}
				if got := sa.Has(d); got != a[d] {
					t.Fatalf("%v has %v: got %v, want %v", sa, d, got, a[d])
				}
				if a[d] {
					last = counter
				}
			}
			if got := sa.Last(origin); got != last {
				t.Fatalf("last of %d in %v: got %d, want %d", origin, sa, got, last)
			}
		}
		if got, want := sa.Missing(sb), a.missing(b); got != want {
			t.Fatalf("missing of %v in %v: got %d, want %d", sa, sb, got, want)
		}
		union := naive{}
		for d := range a {
			union[d] = true
		}
		for d := range b {
			union[d] = true
		}
		got := sa.Clone()
		got.Union(sb)
		if want := union.set(); !reflect.DeepEqual(got, want) {
			t.Fatalf("union of %v and %v has another form than %v", sa, sb, want)
		}
		if want := union.set(); !got.Equal(want) || got.Hash() != want.Hash() {
			t.Fatalf("union of %v and %v: got %v, want %v", sa, sb, got, want)
		}
		if !sa.Equal(a.set()) || !sb.Equal(b.set()) {
			t.Fatalf("union changed its inputs: %v, %v", sa, sb)
		}
	})
}

func TestUnionIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	union := func(sets ...*seen.Set) *seen.Set {
		u := new(seen.Set)
		for _, s := range sets {
			u.Union(s)
		}
		return u
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := generate(t, "a").set(), generate(t, "b").set(), generate(t, "c").set()
		for name, pair := range map[string][2]*seen.Set{
			"commutative": {union(a, b), union(b, a)},
			"associative": {union(union(a, b), c), union(a, union(b, c))},
			"idempotent":  {union(a, a), a},
		} {
			if !pair[0].Equal(pair[1]) {
				t.Fatalf("%s: %v is not %v", name, pair[0], pair[1])
			}
		}
	})
}

func TestOfBuildsTheSetOfItsDotsInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dots := rapid.SliceOf(rapid.Custom(func(t *rapid.T) version.Dot {
			return version.Dot{Origin: rapid.Uint64Range(0, 2).Draw(t, "origin"), Counter: rapid.Uint64Range(0, 12).Draw(t, "counter")}
		})).Draw(t, "dots")
		want := new(seen.Set)
		for _, d := range dots {
			want.Add(d)
		}
		given := slices.Clone(dots)
		got := seen.Of(dots...)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("set of %v: got %v, want %v", dots, got, want)
		}
		if !slices.Equal(dots, given) {
			t.Fatalf("the dots given were changed from %v to %v", given, dots)
		}
	})
}

func TestGapsAreWhatASetDoesNotHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := generate(t, "set")
		if rapid.Bool().Draw(t, "with the highest counter") {
			n[version.Dot{Origin: 1, Counter: math.MaxUint64}] = true
		}
		s := n.set()
		for origin := range uint64(4) {
			next := uint64(1) // the first counter of which nothing was said yet
			for first, last := range s.Gaps(origin) {
				if first < next || last < first {
					t.Fatalf("gap %d-%d of %d in %v comes after %d", first, last, origin, s, next-1)
				}
				for c := next; c < first; c++ {
					if !n[version.Dot{Origin: origin, Counter: c}] {
						t.Fatalf("%d of %d is in no gap of %v", c, origin, s)
					}
				}
				if first > 1 && !s.Has(version.Dot{Origin: origin, Counter: first - 1}) {
					t.Fatalf("gap %d-%d of %d in %v could begin earlier", first, last, origin, s)
				}
				for c := first; c <= min(last, 20); c++ {
					if n[version.Dot{Origin: origin, Counter: c}] {
						t.Fatalf("%d of %d is in a gap of %v", c, origin, s)
					}
				}
				next = last + 1
			}
			// Behind the last gap is nothing, or the highest counter alone.
			if highest := n[version.Dot{Origin: origin, Counter: math.MaxUint64}]; highest && next != math.MaxUint64 || !highest && next != 0 {
				t.Fatalf("the gaps of %d in %v end before %d", origin, s, next)
			}
		}
	})
}

func TestGapsEndWithTheirConsumer(t *testing.T) {
	s := seen.Of(version.Dot{Origin: 1, Counter: 3}, version.Dot{Origin: 1, Counter: 9})
	for first, last := range s.Gaps(1) {
		if first != 1 || last != 2 {
			t.Errorf("first gap: got %d-%d, want 1-2", first, last)
		}
		break
	}
}

func TestAddReportsWhatIsNewInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counters := rapid.SliceOf(rapid.Uint64Range(0, 9)).Draw(t, "counters")
		var s seen.Set
		known := map[uint64]bool{0: true}
		for _, c := range counters {
			if got, want := s.Add(version.Dot{Origin: 7, Counter: c}), !known[c]; got != want {
				t.Fatalf("add %d: got new=%v, want %v", c, got, want)
			}
			known[c] = true
		}
	})
}

func TestEqualSetsAloneShareAHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := generate(t, "a").set(), generate(t, "b").set()
		if got, want := a.Hash() == b.Hash(), a.Equal(b); got != want {
			t.Fatalf("%v and %v: same hash %v, equal %v", a, b, got, want)
		}
	})
}

func TestFormsReadBackTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := generate(t, "s").set()
		b, err := s.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, err := seen.Decode(append(b, "tail"...))
		if err != nil || string(rest) != "tail" || !got.Equal(s) || got.Hash() != s.Hash() {
			t.Fatalf("binary form of %v: got %v, rest %q, %v", s, got, rest, err)
		}
		var parsed seen.Set
		for _, origin := range s.Origins() {
			if err := parsed.ParseCounters(origin, s.Counters(origin)); err != nil {
				t.Fatalf("counters %q: %v", s.Counters(origin), err)
			}
		}
		if !parsed.Equal(s) {
			t.Fatalf("text form of %v: got %v", s, &parsed)
		}
	})
}

func TestCountersAreCompact(t *testing.T) {
	s := seen.Of(version.Dot{Origin: 1, Counter: 20})
	for c := range uint64(17) {
		s.Add(version.Dot{Origin: 1, Counter: c + 1})
	}
	if got, want := s.Counters(1), "1-17,20"; got != want {
		t.Errorf("counters: got %q, want %q", got, want)
	}
	if got, want := s.String(), "1:1-17,20"; got != want {
		t.Errorf("string: got %q, want %q", got, want)
	}
	if got := s.Counters(2); got != "" {
		t.Errorf("counters of an unknown origin: got %q, want none", got)
	}
}

func TestParseCountersRefusesNonsenseAndChangesNothing(t *testing.T) {
	for _, text := range []string{"", "0", "1-", "-1", "2-1", "1,1", "3,2", "a", "1-2-3", "18446744073709551616"} {
		var s seen.Set
		if err := s.ParseCounters(1, text); !errors.Is(err, seen.ErrInvalid) {
			t.Errorf("counters %q: got %v, want ErrInvalid", text, err)
		}
		if !s.Equal(new(seen.Set)) {
			t.Errorf("counters %q changed the set to %v", text, &s)
		}
	}
}

func TestCountersAtTheEndOfTheRangeDoNotWrapAround(t *testing.T) {
	const last = 1<<64 - 1
	var s, t1 seen.Set
	if err := errors.Join(s.ParseCounters(1, "5-18446744073709551615"), t1.ParseCounters(1, "7-8,18446744073709551615")); err != nil {
		t.Fatal(err)
	}
	s.Union(&t1)
	if got, want := s.Counters(1), "5-18446744073709551615"; got != want {
		t.Errorf("union: got %q, want %q", got, want)
	}
	if s.Add(version.Dot{Origin: 1, Counter: last}) || !s.Add(version.Dot{Origin: 1, Counter: 4}) {
		t.Errorf("add at the ends of %v gave the wrong answer", &s)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []*seen.Set{
		{},
		seen.Of(version.Dot{Origin: 1, Counter: 1}),
		seen.Of(version.Dot{Origin: 1, Counter: 3}, version.Dot{Origin: 1, Counter: 9}, version.Dot{Origin: 1 << 63, Counter: 1<<64 - 1}),
	} {
		b, _ := s.AppendBinary(nil)
		f.Add(b)
	}
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := seen.Decode(b)
		if err != nil {
			if !errors.Is(err, seen.ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
			return
		}
		again, _ := s.AppendBinary(nil)
		if !bytes.Equal(append(again, rest...), b) {
			t.Fatalf("accepted %x, which is written as %x", b, again)
		}
	})
}

func BenchmarkAddInOrder(b *testing.B) {
	b.ReportAllocs()
	var s seen.Set
	for i := range b.N {
		s.Add(version.Dot{Origin: 1, Counter: uint64(i) + 1})
	}
}

// BenchmarkUnion merges two sets with as many holes each as numbers of ranges can make costly.
func BenchmarkUnion(b *testing.B) {
	var odd, even []version.Dot
	for c := range uint64(100_000) {
		odd = append(odd, version.Dot{Origin: 1, Counter: 4*c + 2})
		even = append(even, version.Dot{Origin: 1, Counter: 4*c + 4})
	}
	s, t := seen.Of(odd...), seen.Of(even...)
	b.ReportAllocs()
	for b.Loop() {
		s.Clone().Union(t)
	}
}

func BenchmarkOfWithHoles(b *testing.B) {
	dots := make([]version.Dot, 100_000)
	for i, c := range rand.New(rand.NewPCG(1, 2)).Perm(len(dots)) {
		dots[i] = version.Dot{Origin: 1, Counter: 2 * uint64(c+1)}
	}
	b.ReportAllocs()
	for b.Loop() {
		seen.Of(dots...)
	}
}

func TestUntilIsTheBeginningOfASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := generate(t, "a"), generate(t, "b")
		last := make(map[uint64]uint64)
		for d := range b {
			last[d.Origin] = max(last[d.Origin], d.Counter)
		}
		want := naive{}
		for d := range a {
			if d.Counter <= last[d.Origin] {
				want[d] = true
			}
		}
		sa, sb := a.set(), b.set()
		got := sa.Until(sb)
		if !got.Equal(want.set()) || got.Hash() != want.set().Hash() || !sa.Equal(a.set()) || !sb.Equal(b.set()) {
			t.Fatalf("%v until %v: got %v, want %v", sa, sb, got, want.set())
		}
	})
}
