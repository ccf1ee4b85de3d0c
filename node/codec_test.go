package node

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// sameSets lets cmp compare seen sets.
var sameSets = cmp.Comparer(func(a, b *seen.Set) bool { return a == nil && b == nil || a != nil && b != nil && a.Equal(b) })

func drawVersion(t *rapid.T) version.Version {
	return version.Version{
		Timestamp: version.Timestamp{Wall: rapid.Int64Range(0, version.MaxWall).Draw(t, "wall"), Logical: rapid.Uint32().Draw(t, "logical")},
		Dot:       version.Dot{Origin: rapid.Uint64Min(1).Draw(t, "origin"), Counter: rapid.Uint64Min(1).Draw(t, "counter")},
	}
}

var drawRecord = rapid.Custom(func(t *rapid.T) replication.Record {
	r := replication.Record{
		Key:     rapid.StringMatching(`[A-Za-z0-9]{1,255}`).Draw(t, "key"),
		Version: drawVersion(t),
		Deleted: rapid.Bool().Draw(t, "deleted"),
	}
	if !r.Deleted {
		r.ContentType = rapid.OneOf(
			rapid.StringMatching(`[ -~]{0,255}`), rapid.Just(plainText), rapid.StringMatching(`[ -~]{25}`), // as long as plainText
		).Draw(t, "content type")
		r.Value = rapid.SliceOf(rapid.Byte()).Draw(t, "value")
	}
	return r
})

var drawMeta = rapid.Custom(func(t *rapid.T) replication.Meta {
	m := replication.Meta{Version: drawVersion(t), Deleted: rapid.Bool().Draw(t, "deleted")}
	if !m.Deleted {
		m.Size = rapid.Int64Min(0).Draw(t, "size")
	}
	return m
})

var drawOutcome = rapid.Custom(func(t *rapid.T) replication.Outcome {
	if err := rapid.SampledFrom([]error{nil, replication.ErrDiskFull, replication.ErrReadOnly}).Draw(t, "error"); err != nil {
		return replication.Outcome{Err: err}
	}
	return replication.Outcome{Current: drawMeta.Draw(t, "current")}
})

var drawHeld = rapid.Custom(func(t *rapid.T) replication.Held {
	r := drawRecord.Draw(t, "record")
	return replication.Held{Key: r.Key, Version: r.Version, Deleted: r.Deleted}
})

var drawStatus = rapid.Custom(func(t *rapid.T) replication.Status {
	s := replication.Status{
		Origin:   rapid.Uint64().Draw(t, "origin"),
		Clock:    drawVersion(t).Timestamp,
		Wall:     time.Unix(0, rapid.Int64().Draw(t, "wall")),
		Keys:     rapid.Uint64().Draw(t, "keys"),
		SeenHash: rapid.Uint64().Draw(t, "hash"),
		Digest:   rapid.Uint64().Draw(t, "digest"),
		Pulled:   rapid.Uint64().Draw(t, "pulled"), Offered: rapid.Uint64().Draw(t, "offered"),
		Tombstones: rapid.Uint64().Draw(t, "tombstones"),
		Recall:     rapid.Bool().Draw(t, "recall"),
		Life:       rapid.Uint64().Draw(t, "life"), RecalledLife: rapid.Uint64().Draw(t, "recalled life"),
		Recalled: drawSet(t, "recalled"),
		Seen:     drawSet(t, "seen"),
	}
	if s.Seen != nil {
		s.SeenHash = s.Seen.Hash()
	}
	return s
})

// drawSet draws a seen set, or nil.
func drawSet(t *rapid.T, name string) *seen.Set {
	if rapid.Bool().Draw(t, "no "+name) {
		return nil
	}
	s := new(seen.Set)
	for range rapid.IntRange(0, 20).Draw(t, name) {
		s.Add(version.Dot{Origin: rapid.Uint64Range(1, 3).Draw(t, "o"), Counter: rapid.Uint64Range(1, 30).Draw(t, "c")})
	}
	return s
}

func TestMessagesReadBackAsTheyWereWritten(t *testing.T) {
	empty := cmpopts.EquateEmpty()
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(drawRecord, 0, 5).Draw(t, "records")
		b := appendRecords(nil, records)
		d := decoder{rest: b}
		if diff := cmp.Diff(records, d.records(), empty); diff != "" || d.end() != nil {
			t.Fatalf("records (-want +got), %v:\n%s", d.err, diff)
		}
		room := 10
		for _, r := range records {
			room += recordRoom(r)
		}
		if len(b) > room {
			t.Fatalf("records take %d bytes, want at most the %d reckoned", len(b), room)
		}

		meta := drawMeta.Draw(t, "meta")
		d = decoder{rest: appendMeta(nil, meta)}
		if got := d.meta(); got != meta || d.end() != nil {
			t.Fatalf("meta: got %v, %v, want %v", got, d.err, meta)
		}

		outcomes := rapid.SliceOfN(drawOutcome, 0, 5).Draw(t, "outcomes")
		d = decoder{rest: appendOutcomes(nil, outcomes)}
		if diff := cmp.Diff(outcomes, d.outcomes(len(outcomes)), empty, cmpopts.EquateErrors()); diff != "" || d.end() != nil {
			t.Fatalf("outcomes (-want +got), %v:\n%s", d.err, diff)
		}

		keys := rapid.SliceOf(rapid.StringMatching(`[A-Za-z0-9]{1,255}`)).Draw(t, "keys")
		d = decoder{rest: appendKeys(nil, keys)}
		if got := d.keys(); !slices.Equal(got, keys) || d.end() != nil {
			t.Fatalf("keys: got %q, %v, want %q", got, d.err, keys)
		}

		numbers := rapid.SliceOf(rapid.IntRange(0, 99)).Draw(t, "numbers")
		d = decoder{rest: appendNumbers(nil, numbers)}
		if got := d.numbers(100); !slices.Equal(got, numbers) || d.end() != nil {
			t.Fatalf("numbers: got %v, %v, want %v", got, d.err, numbers)
		}

		held := rapid.SliceOf(drawHeld).Draw(t, "held")
		d = decoder{rest: appendHeld(nil, held)}
		if got := d.held(); !slices.Equal(got, held) || d.end() != nil {
			t.Fatalf("held: got %v, %v, want %v", got, d.err, held)
		}

		status := drawStatus.Draw(t, "status")
		d = decoder{rest: appendStatus(nil, status)}
		if diff := cmp.Diff(status, d.status(), sameSets); diff != "" || d.end() != nil {
			t.Fatalf("status (-want +got), %v:\n%s", d.err, diff)
		}
	})
}

// TestMessagesCutShortOrTooLongAreErrors also shows that no length is taken on trust.
func TestMessagesCutShortOrTooLongAreErrors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := appendRecords(nil, rapid.SliceOfN(drawRecord, 1, 3).Draw(t, "records"))
		d := decoder{rest: b[:rapid.IntRange(0, len(b)-1).Draw(t, "length")]}
		d.records()
		if err := d.end(); !errors.Is(err, errBadMessage) {
			t.Fatalf("cut short: got %v, want errBadMessage", err)
		}
		d = decoder{rest: append(b, 0)}
		d.records()
		if err := d.end(); !errors.Is(err, errBadMessage) {
			t.Fatalf("a byte too many: got %v, want errBadMessage", err)
		}
		s := appendStatus(nil, drawStatus.Draw(t, "status"))
		d = decoder{rest: s[:rapid.IntRange(0, len(s)-1).Draw(t, "length")]}
		d.status()
		if err := d.end(); !errors.Is(err, errBadMessage) {
			t.Fatalf("status cut short: got %v, want errBadMessage", err)
		}
	})
}

func TestRecordsThatNoNodeWritesAreErrors(t *testing.T) {
	good := replication.Record{Key: "foo", Version: someVersion(1), ContentType: "a/b", Value: []byte("x")}
	for name, change := range map[string]func(*replication.Record){
		"no key":              func(r *replication.Record) { r.Key = "" },
		"bad key":             func(r *replication.Record) { r.Key = "../foo" },
		"no version":          func(r *replication.Record) { r.Version = version.Version{} },
		"no origin":           func(r *replication.Record) { r.Version.Origin = 0 },
		"no counter":          func(r *replication.Record) { r.Version.Counter = 0 },
		"before 1970":         func(r *replication.Record) { r.Version.Wall = math.MinInt64 },
		"after 2116":          func(r *replication.Record) { r.Version.Wall = version.MaxWall + 1 },
		"tombstone with data": func(r *replication.Record) { r.Deleted = true },
		"line in type":        func(r *replication.Record) { r.ContentType = "a/b\nc" },
		"long type":           func(r *replication.Record) { r.ContentType = string(make([]byte, 256)) },
	} {
		r := good
		change(&r)
		d := decoder{rest: appendRecord(nil, r)}
		d.record()
		if err := d.end(); !errors.Is(err, errBadMessage) {
			t.Errorf("%s: got %v, want errBadMessage", name, err)
		}
	}
}

func TestASeenSetOtherThanAnnouncedIsAnError(t *testing.T) {
	set := new(seen.Set)
	set.Add(version.Dot{Origin: 1, Counter: 2})
	d := decoder{rest: appendStatus(nil, replication.Status{Seen: set, SeenHash: set.Hash() + 1})}
	d.status()
	if err := d.end(); !errors.Is(err, errBadMessage) {
		t.Errorf("got %v, want errBadMessage", err)
	}
}

// FuzzMessages feeds every reader with anything: it must neither panic nor take memory beyond
// the input, and what it accepts must be what it writes again.
func FuzzMessages(f *testing.F) {
	record := replication.Record{Key: "foo", Version: someVersion(1), ContentType: "a/b", Value: []byte("x")}
	set := new(seen.Set)
	set.Add(version.Dot{Origin: 1, Counter: 2})
	f.Add(byte(0), appendRecords(nil, []replication.Record{record, record}))
	f.Add(byte(1), appendMeta(nil, record.Meta()))
	f.Add(byte(2), appendOutcomes(nil, []replication.Outcome{{Current: record.Meta()}, {Err: replication.ErrDiskFull}}))
	f.Add(byte(3), appendStatus(nil, replication.Status{Origin: 1, Seen: set, SeenHash: set.Hash()}))
	f.Add(byte(3), appendStatus(nil, replication.Status{Origin: 1, Seen: set, SeenHash: set.Hash(), Recall: true, Life: 3, RecalledLife: 2, Recalled: set}))
	f.Add(byte(4), appendHeld(nil, []replication.Held{{Key: "foo", Version: someVersion(1), Deleted: true}}))
	f.Add(byte(5), appendNumbers(nil, []int{0, 4095}))
	f.Add(byte(6), appendSpan(nil, replication.Span{Prefix: "f", After: "foo", Limit: 1000}))
	f.Add(byte(7), appendStretch(nil, replication.Stretch{Entries: []replication.Entry{{Key: "foo", Meta: record.Meta()}}, More: true}))
	f.Add(byte(8), appendKeys(nil, []string{"foo", "bar"}))
	f.Add(byte(0), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, reader byte, b []byte) {
		read := []func(b []byte) ([]byte, error){
			func(b []byte) ([]byte, error) {
				d := decoder{rest: b}
				r := d.records()
				return appendRecords(nil, r), d.end()
			},
			func(b []byte) ([]byte, error) {
				d := decoder{rest: b}
				m := d.meta()
				return appendMeta(nil, m), d.end()
			},
			func(b []byte) ([]byte, error) {
				d := decoder{rest: b}
				o := d.outcomes(2)
				return appendOutcomes(nil, o), d.end()
			},
			func(b []byte) ([]byte, error) {
				d := decoder{rest: b}
				s := d.status()
				return appendStatus(nil, s), d.end()
			},
			func(b []byte) ([]byte, error) {
				d := decoder{rest: b}
				h := d.held()
				return appendHeld(nil, h), d.end()
			},
			func(b []byte) ([]byte, error) {
				d := decoder{rest: b}
				n := d.numbers(replication.DigestBuckets)
				return appendNumbers(nil, n), d.end()
			},
			func(b []byte) ([]byte, error) {
				d := decoder{rest: b}
				s := d.span()
				return appendSpan(nil, s), d.end()
			},
			func(b []byte) ([]byte, error) {
				d := decoder{rest: b}
				s := d.stretch()
				return appendStretch(nil, s), d.end()
			},
			func(b []byte) ([]byte, error) {
				d := decoder{rest: b}
				k := d.keys()
				return appendKeys(nil, k), d.end()
			},
		}[reader%9]
		written, err := read(b)
		if err != nil {
			return
		}
		again, err := read(written)
		if err != nil || string(again) != string(written) {
			t.Errorf("%x was accepted and written as %x, which reads as %x, %v", b, written, again, err)
		}
	})
}
