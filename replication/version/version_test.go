package version_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication/version"
)

func generate(t *rapid.T, label string) version.Version {
	return rapid.Custom(func(t *rapid.T) version.Version {
		return version.Version{
			Timestamp: version.Timestamp{
				Wall:    rapid.Int64Range(0, 1<<63-1).Draw(t, "wall"),
				Logical: rapid.Uint32().Draw(t, "logical"),
			},
			Dot: version.Dot{Origin: rapid.Uint64().Draw(t, "origin"), Counter: rapid.Uint64().Draw(t, "counter")},
		}
	}).Draw(t, label)
}

func TestTextAndBinaryFormsReadBackTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := generate(t, "v")
		parsed, err := version.Parse(v.String())
		if err != nil || parsed != v {
			t.Fatalf("Parse(%q): got %v, %v, want %v", v.String(), parsed, err, v)
		}
		if len(v.String()) > 60 {
			t.Fatalf("text form has %d bytes, want at most 60", len(v.String()))
		}
		b, err := v.AppendBinary(nil)
		if err != nil || len(b) != version.Size {
			t.Fatalf("AppendBinary: got %d bytes, %v, want %d", len(b), err, version.Size)
		}
		decoded, err := version.Decode(b)
		if err != nil || decoded != v {
			t.Fatalf("Decode: got %v, %v, want %v", decoded, err, v)
		}
	})
}

func TestBinaryFormsSortLikeVersions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, w := generate(t, "v"), generate(t, "w")
		a, _ := v.AppendBinary(nil)
		b, _ := w.AppendBinary(nil)
		if got, want := bytes.Compare(a, b), v.Compare(w); got != want {
			t.Fatalf("binary forms compare %d, versions %d", got, want)
		}
	})
}

func TestOrderIsClockThenOriginThenCounter(t *testing.T) {
	at := func(wall int64, logical uint32, origin, counter uint64) version.Version {
		return version.Version{
			Timestamp: version.Timestamp{Wall: wall, Logical: logical},
			Dot:       version.Dot{Origin: origin, Counter: counter},
		}
	}
	ascending := []version.Version{
		{}, at(1, 0, 9, 9), at(1, 1, 1, 9), at(1, 1, 2, 1), at(1, 1, 2, 2), at(2, 0, 1, 1),
	}
	for i, v := range ascending {
		for j, w := range ascending {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := v.Compare(w); got != want {
				t.Errorf("compare %v with %v: got %d, want %d", v, w, got, want)
			}
		}
	}
}

func TestParseRefusesAllButTheCanonicalForm(t *testing.T) {
	for _, s := range []string{
		"", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.G", "A.2.3.4", "+1.2.3.4", "-1.2.3.4", "1.2.3.",
		"8000000000000000.0.1.1", "1.100000000.1.1", "1.1.10000000000000000.1", " 1.2.3.4",
	} {
		if v, err := version.Parse(s); !errors.Is(err, version.ErrInvalid) {
			t.Errorf("Parse(%q): got %v, %v, want ErrInvalid", s, v, err)
		}
	}
}

func TestDecodeRefusesShortAndNegative(t *testing.T) {
	if _, err := version.Decode(make([]byte, version.Size-1)); !errors.Is(err, version.ErrInvalid) {
		t.Errorf("short input: got %v, want ErrInvalid", err)
	}
	if _, err := version.Decode(bytes.Repeat([]byte{0xff}, version.Size)); !errors.Is(err, version.ErrInvalid) {
		t.Errorf("negative wall: got %v, want ErrInvalid", err)
	}
}

func TestClockNeverGoesBackOrRepeatsWhateverTheWallClockDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wall := time.Unix(1000, 0)
		floor := version.Timestamp{Wall: rapid.Int64Range(0, 2000e9).Draw(t, "floor")}
		c := version.NewClock(func() time.Time { return wall }, floor)
		last := floor
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			wall = wall.Add(time.Duration(rapid.Int64Range(-5e9, 5e9).Draw(t, "step")))
			if rapid.Bool().Draw(t, "observe") {
				heard := version.Timestamp{Wall: max(0, wall.UnixNano()+rapid.Int64Range(-1e9, 1e9).Draw(t, "heard"))}
				moved := c.Observe(heard)
				near := heard.Wall-max(0, wall.UnixNano()) <= int64(version.MaxAhead)
				if moved != near {
					t.Fatalf("observe %d at wall %d: moved %v, want %v", heard.Wall, wall.UnixNano(), moved, near)
				}
				if moved && heard.Compare(last) > 0 {
					last = heard
				}
			}
			next := c.Next()
			if next.Compare(last) <= 0 {
				t.Fatalf("issued %v after %v", next, last)
			}
			if next.Wall < wall.UnixNano() {
				t.Fatalf("issued %v behind wall time %d", next, wall.UnixNano())
			}
			last = next
		}
	})
}

func TestAStampFromTheFarFutureNeverMovesTheClock(t *testing.T) {
	wall := time.Unix(1000, 0)
	c := version.NewClock(func() time.Time { return wall }, version.Timestamp{})
	c.Observe(version.Timestamp{Wall: wall.Add(version.MaxAhead + 1).UnixNano()})
	if got := c.Next(); got.Wall != wall.UnixNano() {
		t.Errorf("next after a stamp too far ahead: got %v, want wall %d", got, wall.UnixNano())
	}
	c.Observe(version.Timestamp{Wall: wall.Add(version.MaxAhead).UnixNano()})
	if got := c.Next(); got.Wall < wall.Add(version.MaxAhead).UnixNano() {
		t.Errorf("next after a stamp %v ahead: got %v, want above it", version.MaxAhead, got)
	}
}

func TestTimestampNextCarriesIntoTheWall(t *testing.T) {
	full := version.Timestamp{Wall: 7, Logical: 1<<32 - 1}
	if got, want := full.Next(), (version.Timestamp{Wall: 8}); got != want {
		t.Errorf("next of %v: got %v, want %v", full, got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("17b2c3d4e5f60718.0.9f3c2a1b00d4e5f6.1c")
	f.Add("1.2.3")
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := version.Parse(s); err == nil && v.String() != s {
			t.Errorf("Parse(%q) accepted a form that String writes as %q", s, v.String())
		}
	})
}
