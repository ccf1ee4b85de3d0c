package version

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxWall is the highest wall time of a version that nodes accept from each other, in the year
// 2116: so there always is room above one that is stored.
const MaxWall = 1<<62 - 1

// Timestamp is a reading of a hybrid logical clock. The zero Timestamp is before all others.
type Timestamp struct {
	// Wall is nanoseconds since the Unix epoch, never negative.
	Wall int64
	// Logical orders readings with the same Wall.
	Logical uint32
}

// Compare returns -1, 0 or +1 as t is before, equal to or after u.
func (t Timestamp) Compare(u Timestamp) int {
	return cmp.Or(cmp.Compare(t.Wall, u.Wall), cmp.Compare(t.Logical, u.Logical))
}

// Valid returns nil, or an error that wraps ErrInvalid if t is not one that a node may give to a
// write: its wall time is negative or above MaxWall.
func (t Timestamp) Valid() error {
	if t.Wall < 0 || t.Wall > MaxWall {
		return fmt.Errorf("%w: wall time %d is not from 1970 to 2116", ErrInvalid, t.Wall)
	}
	return nil
}

// Next returns the smallest timestamp after t. After the last one of MaxWall it is not Valid.
func (t Timestamp) Next() Timestamp {
	if t.Logical == maxLogical {
		return Timestamp{Wall: t.Wall + 1}
	}
	return Timestamp{Wall: t.Wall, Logical: t.Logical + 1}
}

// Time returns the wall part of t in UTC.
func (t Timestamp) Time() time.Time { return time.Unix(0, t.Wall).UTC() }

const maxLogical = 1<<32 - 1

// Dot is the identity of one write: the Counter-th of the process that drew Origin.
// The zero Dot names no write; origins and counters start at 1.
type Dot struct {
	Origin  uint64
	Counter uint64
}

// Version is the place of one write in the order that all nodes agree on.
// The zero Version is before all others and stands for "no write".
type Version struct {
	Timestamp
	Dot
}

// Compare returns -1, 0 or +1 as v is before, equal to or after w in the order
// timestamp, origin, counter. It is 0 only for the same write.
func (v Version) Compare(w Version) int {
	return cmp.Or(
		v.Timestamp.Compare(w.Timestamp),
		cmp.Compare(v.Origin, w.Origin),
		cmp.Compare(v.Counter, w.Counter),
	)
}

// IsZero reports whether v stands for "no write".
func (v Version) IsZero() bool { return v == Version{} }

// String returns the text form of v: wall, logical, origin and counter in lower-case
// hexadecimal without leading zeros, joined by dots. It is at most 60 bytes long, holds only
// [0-9a-f.], is the same on every node and is what [Parse] reads.
func (v Version) String() string {
	b, _ := v.AppendText(make([]byte, 0, 60)) // the error is always nil
	return string(b)
}

// AppendText appends what String returns to b. The error is always nil; it is there for
// encoding.TextAppender.
func (v Version) AppendText(b []byte) ([]byte, error) {
	b = strconv.AppendInt(b, v.Wall, 16)
	for _, part := range [...]uint64{uint64(v.Logical), v.Origin, v.Counter} {
		b = append(b, '.')
		b = strconv.AppendUint(b, part, 16)
	}
	return b, nil
}

// ErrInvalid is returned by Parse and Decode for input that no Version has as its form.
var ErrInvalid = errors.New("not a version")

// Parse reads the text form of a version. It accepts exactly what String writes, so that
// equal versions have equal texts.
func Parse(s string) (Version, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return Version{}, fmt.Errorf("%w: %.80q", ErrInvalid, s)
	}
	var fields [4]uint64
	for i, bits := range [...]int{63, 32, 64, 64} {
		field, err := strconv.ParseUint(parts[i], 16, bits)
		if err != nil {
			return Version{}, fmt.Errorf("%w: %.80q", ErrInvalid, s)
		}
		fields[i] = field
	}
	v := Version{
		Timestamp: Timestamp{Wall: int64(fields[0]), Logical: uint32(fields[1])},
		Dot:       Dot{Origin: fields[2], Counter: fields[3]},
	}
	if v.String() != s {
		return Version{}, fmt.Errorf("%w: %.80q", ErrInvalid, s)
	}
	return v, nil
}

// Size is the length in bytes of a version's binary form.
const Size = 8 + 4 + 8 + 8

// AppendBinary appends the binary form of v, Size bytes, to b. Comparing binary forms with
// bytes.Compare gives the same order as Compare. The error is always nil; it is there for
// encoding.BinaryAppender.
func (v Version) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(b, uint64(v.Wall))
	b = binary.BigEndian.AppendUint32(b, v.Logical)
	b = binary.BigEndian.AppendUint64(b, v.Origin)
	return binary.BigEndian.AppendUint64(b, v.Counter), nil
}

// Decode reads the binary form of a version from the first Size bytes of b.
func Decode(b []byte) (Version, error) {
	if len(b) < Size {
		return Version{}, fmt.Errorf("%w: %d bytes of %d", ErrInvalid, len(b), Size)
	}
	v := Version{
		Timestamp: Timestamp{Wall: int64(binary.BigEndian.Uint64(b)), Logical: binary.BigEndian.Uint32(b[8:])},
		Dot:       Dot{Origin: binary.BigEndian.Uint64(b[12:]), Counter: binary.BigEndian.Uint64(b[20:])},
	}
	if v.Wall < 0 {
		return Version{}, fmt.Errorf("%w: wall time before 1970", ErrInvalid)
	}
	return v, nil
}
