package seen

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/protocol7/snakes/replication/version"
)

// Set is a set of dots. The zero Set is empty and ready to use. Not safe for concurrent use
// while one of the uses changes it.
type Set struct {
	origins map[uint64]run
	hash    uint64 // Invariant: XOR of runHash over origins
}

// run is the set of counters of one origin: 1..base and the spans beyond.
// A run is immutable once it is in a Set, so that Clone shares it.
type run struct {
	base  uint64
	spans []span // Invariant: ascending, disjoint, not touching each other nor base
}

// span is the counters from first to last, both included.
type span struct{ first, last uint64 }

// Add puts d into s and reports whether it was new. The zero counter names no write and is
// never added.
func (s *Set) Add(d version.Dot) bool {
	if d.Counter == 0 || s.Has(d) {
		return false
	}
	s.put(d.Origin, s.origins[d.Origin].with(span{d.Counter, d.Counter}))
	return true
}

// Has reports whether d is in s.
func (s *Set) Has(d version.Dot) bool { return s.origins[d.Origin].has(d.Counter) }

// Of returns the set of the given dots, in any order; zero counters name no write and are left
// out. It takes the time of sorting them, whatever holes they leave, where adding one by one
// copies the ranges each time.
func Of(dots ...version.Dot) *Set {
	dots = slices.Clone(dots)
	slices.SortFunc(dots, func(a, b version.Dot) int {
		return cmp.Or(cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Counter, b.Counter))
	})
	s := new(Set)
	for len(dots) > 0 {
		origin := dots[0].Origin
		var spans []span
		for ; len(dots) > 0 && dots[0].Origin == origin; dots = dots[1:] {
			if counter := dots[0].Counter; counter > 0 {
				spans = extend(spans, span{counter, counter})
			}
		}
		if len(spans) > 0 {
			s.put(origin, runOf(spans))
		}
	}
	return s
}

// Union puts all dots of t into s. t is not changed and nothing of it is shared for writing.
// It takes time in proportion to the ranges of the origins that t has.
func (s *Set) Union(t *Set) {
	for origin, theirs := range t.origins {
		s.put(origin, s.origins[origin].union(theirs))
	}
}

// Gaps yields the ranges of counters of origin that are not in s, from first to last, both
// included: ascending, and each as long as it can be. The last one ends at the highest
// number there is, unless that is in s.
func (s *Set) Gaps(origin uint64) iter.Seq2[uint64, uint64] {
	return func(yield func(first, last uint64) bool) {
		r := s.origins[origin]
		end := r.base
		for _, sp := range r.spans {
			if !yield(end+1, sp.first-1) {
				return
			}
			end = sp.last
		}
		if end < math.MaxUint64 {
			yield(end+1, math.MaxUint64)
		}
	}
}

// Until returns the dots of s that are not beyond the last of t, origin by origin. It has none of
// an origin that t has none of.
func (s *Set) Until(t *Set) *Set {
	until := new(Set)
	for origin := range t.origins {
		last := t.Last(origin)
		var spans []span
		for _, sp := range s.origins[origin].all() {
			if sp.first <= last {
				spans = append(spans, span{sp.first, min(sp.last, last)})
			}
		}
		if len(spans) > 0 {
			until.put(origin, runOf(spans))
		}
	}
	return until
}

// Missing returns how many dots of s are not in t.
func (s *Set) Missing(t *Set) uint64 {
	var missing uint64
	for origin, ours := range s.origins {
		missing += ours.missing(t.origins[origin])
	}
	return missing
}

// Last returns the highest counter of origin in s, 0 if there is none.
func (s *Set) Last(origin uint64) uint64 {
	r := s.origins[origin]
	if len(r.spans) > 0 {
		return r.spans[len(r.spans)-1].last
	}
	return r.base
}

// Origins returns the origins of s in ascending order.
func (s *Set) Origins() []uint64 { return slices.Sorted(maps.Keys(s.origins)) }

// Counters returns the counters of origin in s as text, such as "1-17,20"; empty if there are
// none. [ParseCounters] reads it.
func (s *Set) Counters(origin uint64) string {
	var b []byte
	for i, sp := range s.origins[origin].all() {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, sp.first, 10)
		if sp.last > sp.first {
			b = append(b, '-')
			b = strconv.AppendUint(b, sp.last, 10)
		}
	}
	return string(b)
}

// String returns s as text for people: one "origin:counters" per origin, origins in
// hexadecimal, separated by blanks.
func (s *Set) String() string {
	var parts []string
	for _, origin := range s.Origins() {
		parts = append(parts, strconv.FormatUint(origin, 16)+":"+s.Counters(origin))
	}
	return strings.Join(parts, " ")
}

// Clone returns a copy of s that changes independently.
func (s *Set) Clone() *Set { return &Set{origins: maps.Clone(s.origins), hash: s.hash} }

// Equal reports whether s and t hold the same dots.
func (s *Set) Equal(t *Set) bool {
	return s.hash == t.hash && maps.EqualFunc(s.origins, t.origins, func(a, b run) bool {
		return a.base == b.base && slices.Equal(a.spans, b.spans)
	})
}

// Hash returns a number that equal sets share and others do not, but by a chance of 2^-64 or
// by intent: it is no defence against somebody who chooses the dots.
func (s *Set) Hash() uint64 { return s.hash }

func (s *Set) put(origin uint64, r run) {
	if s.origins == nil {
		s.origins = make(map[uint64]run)
	}
	if old, known := s.origins[origin]; known {
		s.hash ^= old.hash(origin)
	}
	s.origins[origin] = r
	s.hash ^= r.hash(origin)
}

func (r run) has(counter uint64) bool {
	if counter <= r.base {
		return counter > 0
	}
	i, _ := slices.BinarySearchFunc(r.spans, counter, func(s span, c uint64) int {
		if s.last < c {
			return -1
		}
		return 1
	})
	return i < len(r.spans) && r.spans[i].first <= counter
}

// all returns the counters of r as ascending spans, base included.
func (r run) all() []span {
	if r.base == 0 {
		return r.spans
	}
	return append([]span{{1, r.base}}, r.spans...)
}

// with returns r with the counters of add, which is not empty and starts at 1 or above.
func (r run) with(add span) run {
	if len(r.spans) == 0 && add.first-1 <= r.base {
		return run{base: max(r.base, add.last)} // the ordinary case: the next write of this origin
	}
	return r.union(run{spans: []span{add}})
}

// union returns the counters of r and t, in one pass over both.
func (r run) union(t run) run {
	if r.base == 0 && len(r.spans) == 0 {
		return t
	}
	ours, theirs := r.all(), t.all()
	spans := make([]span, 0, len(ours)+len(theirs))
	for len(ours)+len(theirs) > 0 {
		next := &ours
		if len(ours) == 0 || len(theirs) > 0 && theirs[0].first < ours[0].first {
			next = &theirs
		}
		spans = extend(spans, (*next)[0])
		*next = (*next)[1:]
	}
	return runOf(spans)
}

// extend adds sp to ascending spans, none of which starts behind it.
func extend(spans []span, sp span) []span {
	if n := len(spans); n > 0 && sp.first-1 <= spans[n-1].last {
		spans[n-1].last = max(spans[n-1].last, sp.last)
		return spans
	}
	return append(spans, sp)
}

// runOf returns the run of spans that are as in a run, but may start at 1.
func runOf(spans []span) run {
	switch {
	case len(spans) == 0 || spans[0].first > 1:
		return run{spans: spans}
	case len(spans) == 1:
		return run{base: spans[0].last}
	}
	return run{base: spans[0].last, spans: spans[1:]}
}

// missing returns how many counters of r are not in t.
func (r run) missing(t run) uint64 {
	var total uint64
	theirs := t.all()
	for _, ours := range r.all() {
		total += ours.last - ours.first + 1
		for len(theirs) > 0 && theirs[0].last < ours.first {
			theirs = theirs[1:]
		}
		for _, sp := range theirs {
			if sp.first > ours.last {
				break
			}
			total -= min(sp.last, ours.last) - max(sp.first, ours.first) + 1
		}
	}
	return total
}

// hash mixes origin and counters with the finalizer of SplitMix64 (Steele et al., 2014).
func (r run) hash(origin uint64) uint64 {
	h := mix(origin)
	h = mix(h ^ r.base)
	for _, sp := range r.spans {
		h = mix(h ^ sp.first)
		h = mix(h ^ sp.last)
	}
	return h
}

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
