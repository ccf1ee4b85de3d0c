package seen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ErrInvalid is returned by Decode and ParseCounters for input that is no set's form.
var ErrInvalid = errors.New("not a seen set")

// AppendBinary appends the binary form of s to b: the number of origins, then for each, in
// ascending order, the origin (8 bytes), its base, its number of spans, and for each span its
// distance from the end before it and its length; all but the origin as unsigned varints.
// Equal sets have equal forms. The error is always nil; it is there for
// encoding.BinaryAppender.
func (s *Set) AppendBinary(b []byte) ([]byte, error) {
	origins := s.Origins()
	b = binary.AppendUvarint(b, uint64(len(origins)))
	for _, origin := range origins {
		r := s.origins[origin]
		b = binary.BigEndian.AppendUint64(b, origin)
		b = binary.AppendUvarint(b, r.base)
		b = binary.AppendUvarint(b, uint64(len(r.spans)))
		end := r.base
		for _, sp := range r.spans {
			b = binary.AppendUvarint(b, sp.first-end)
			b = binary.AppendUvarint(b, sp.last-sp.first)
			end = sp.last
		}
	}
	return b, nil
}

// Decode reads a set from the start of b and returns the bytes behind it. It accepts exactly
// what AppendBinary writes and allocates in proportion to len(b), whatever b claims.
func Decode(b []byte) (s *Set, rest []byte, err error) {
	d := decoder{rest: b}
	s = new(Set)
	var previous uint64
	for i, n := uint64(0), d.uvarint(); i < n && d.err == nil; i++ {
		origin := d.uint64()
		r := d.run()
		if d.err == nil && i > 0 && origin <= previous {
			d.fail("origins out of order")
		}
		if d.err != nil {
			break
		}
		s.put(origin, r)
		previous = origin
	}
	if d.err != nil {
		return nil, nil, d.err
	}
	return s, d.rest, nil
}

// decoder reads from rest until the first error, which sticks.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) run() run {
	r := run{base: d.uvarint()}
	end := r.base
	for i, n := uint64(0), d.uvarint(); i < n && d.err == nil; i++ {
		gap, length := d.uvarint(), d.uvarint()
		if d.err == nil && (gap < 2 || gap > math.MaxUint64-end || length > math.MaxUint64-end-gap) {
			d.fail("spans touch or overflow")
		}
		if d.err != nil {
			return run{}
		}
		sp := span{first: end + gap, last: end + gap + length}
		r.spans = append(r.spans, sp)
		end = sp.last
	}
	if d.err == nil && end == 0 {
		d.fail("empty origin")
	}
	return r
}

func (d *decoder) uint64() uint64 {
	if d.err != nil {
		return 0
	}
	if len(d.rest) < 8 {
		d.fail("cut short")
		return 0
	}
	x := binary.BigEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return x
}

func (d *decoder) uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	x, n := binary.Uvarint(d.rest)
	if n <= 0 || n > 1 && d.rest[n-1] == 0 { // cut, too long, or padded: one form per number
		d.fail("bad number")
		return 0
	}
	d.rest = d.rest[n:]
	return x
}

func (d *decoder) fail(why string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrInvalid, why)
	}
}

// ParseCounters reads what Counters writes and adds the counters to origin in s. It accepts
// ascending numbers and ranges only, from 1 on. On an error s is unchanged.
func (s *Set) ParseCounters(origin uint64, text string) error {
	var spans []span
	var previous uint64
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseUint(low, 10, 64)
		last := first
		if err == nil && isRange {
			last, err = strconv.ParseUint(high, 10, 64)
		}
		if err != nil || first <= previous || last < first {
			return fmt.Errorf("%w: counters %.80q", ErrInvalid, text)
		}
		spans = extend(spans, span{first, last})
		previous = last
	}
	s.put(origin, s.origins[origin].union(runOf(spans)))
	return nil
}
