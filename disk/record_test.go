package disk

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

func drawRecord(t *rapid.T) replication.Record {
	r := replication.Record{
		Key: rapid.StringMatching(`[A-Za-z0-9]{1,255}`).Draw(t, "key"),
		Version: version.Version{
			Timestamp: version.Timestamp{Wall: rapid.Int64Min(0).Draw(t, "wall"), Logical: rapid.Uint32().Draw(t, "logical")},
			Dot:       version.Dot{Origin: rapid.Uint64Min(1).Draw(t, "origin"), Counter: rapid.Uint64Min(1).Draw(t, "counter")},
		},
		Deleted: rapid.Bool().Draw(t, "deleted"),
	}
	if !r.Deleted {
		r.ContentType = string(rapid.SliceOf(rapid.Byte()).Draw(t, "type"))
		r.Value = rapid.SliceOf(rapid.Byte()).Draw(t, "value")
	}
	return r
}

func contentOf(r replication.Record) []byte { return encodeRecord(r)[1:] }

func TestRecordsReadBackTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		got, err := parseRecord(contentOf(want))
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	})
}

func TestNoHeaderIsLongerThanTheLongest(t *testing.T) {
	for _, c := range []string{"\x00", "\U0010ffff", "\"", "ü"} {
		r := replication.Record{
			Key: strings.Repeat("k", replication.MaxKeyBytes),
			Version: version.Version{
				Timestamp: version.Timestamp{Wall: 1<<63 - 1, Logical: 1<<32 - 1},
				Dot:       version.Dot{Origin: 1<<64 - 1, Counter: 1<<64 - 1},
			},
			ContentType: strings.Repeat(c, maxContentType/len(c)),
		}
		if got := len(appendRecord(nil, r)) - len(r.Value); check(r) != nil || got > maxHeader {
			t.Errorf("content type of %q: header of %d bytes, want at most %d", c, got, maxHeader)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add(contentOf(put("foo", 1, "some value")))
	f.Add(contentOf(tombstone("Foo", 2)))
	f.Add(contentOf(replication.Record{Key: "k", Version: at(3), ContentType: "a \"b\"\n\xff", Value: []byte("\n\n")}))
	f.Add([]byte("snakes1 00000000 key= version= length= crc32c= deleted= type=\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err == nil && !bytes.Equal(contentOf(r), data) {
			t.Fatalf("accepted %q, which is written as %q", data, contentOf(r))
		}
		if err == nil && check(r) != nil {
			t.Fatalf("accepted %q: %v", data, check(r))
		}
		if h, err := parseHeader(data); err == nil && !bytes.Equal(h.append(nil), append(bytes.Clone(data), '\n')) {
			t.Fatalf("accepted header %q, which is written as %q", data, h.append(nil))
		}
	})
}

func FuzzUnseal(f *testing.F) {
	f.Add(seal("seen", []byte("payload")))
	f.Add(seal("seen", nil))
	f.Add(seal("state", []byte("payload")))
	f.Fuzz(func(t *testing.T, data []byte) {
		payload, err := unseal("seen", data)
		if err == nil && !bytes.Equal(seal("seen", payload), data) {
			t.Fatalf("accepted %q, which is written as %q", data, seal("seen", payload))
		}
	})
}
