package backup_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/protocol7/snakes/node/backup"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// someHeader is that of all backups of these tests.
var someHeader = backup.Header{
	Cluster: "snakes", ClusterID: "c1", Node: "node-a", NodeID: "a", Release: "1.0.0",
	Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
}

func at(n uint64) version.Version {
	return version.Version{Timestamp: version.Timestamp{Wall: int64(n) << 32, Logical: 1}, Dot: version.Dot{Origin: 7, Counter: n}}
}

// someRecords have all that a record can have.
func someRecords() []replication.Record {
	return []replication.Record{
		{Key: "a", Version: at(3), ContentType: "text/plain; charset=utf-8", Value: []byte("first")},
		{Key: "b", Version: at(1), Value: []byte{}},
		{Key: "c", Version: at(9), Deleted: true},
		{Key: "d", Version: at(4), ContentType: "application/octet-stream", Value: []byte{0, 1, 255, '\n'}},
	}
}

// dots is the set of the first n writes.
func dots(n uint64) *seen.Set {
	set := new(seen.Set)
	for i := range n {
		set.Add(at(i + 1).Dot)
	}
	return set
}

// written returns the file with these records.
func written(t testing.TB, records ...replication.Record) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := backup.NewWriter(&file, someHeader, dots(9))
	for _, r := range records {
		if err == nil {
			err = w.Write(r)
		}
	}
	if err == nil {
		_, err = w.Close(dots(2))
	}
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// read returns the records of a file up to its end or what is wrong with it.
func read(r io.Reader) (b *backup.Reader, records []replication.Record, err error) {
	b, err = backup.NewReader(r)
	for err == nil {
		var record replication.Record
		if record, err = b.Next(); err == nil {
			records = append(records, record)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b, records, err
}

func TestKeysOfAnyLengthAreRead(t *testing.T) {
	var records []replication.Record
	for n := 1; n <= replication.MaxKeyBytes; n++ {
		records = append(records, replication.Record{Key: strings.Repeat("k", n), Version: at(uint64(n)), Value: []byte("value")})
	}
	_, got, err := read(bytes.NewReader(written(t, records...)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(records, got); diff != "" {
		t.Errorf("records: -want +got\n%s", diff)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for name, records := range map[string][]replication.Record{"some": someRecords(), "none": nil} {
		file := written(t, records...)
		b, got, err := read(iotest.OneByteReader(bytes.NewReader(file)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(records, got); diff != "" {
			t.Errorf("%s: records: -want +got\n%s", name, diff)
		}
		if diff := cmp.Diff(someHeader, b.Header()); diff != "" {
			t.Errorf("%s: header: -want +got\n%s", name, diff)
		}
		if !b.Seen().Equal(dots(9)) || !b.Collected().Equal(dots(2)) {
			t.Errorf("%s: seen %v and collected %v, want 1-9 and 1-2 of origin 7", name, b.Seen(), b.Collected())
		}
		if _, err := b.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: after the end: got %v, want io.EOF again", name, err)
		}
		header, trailer, err := backup.Verify(bytes.NewReader(file))
		if err != nil || header != someHeader || trailer != b.Trailer() {
			t.Errorf("%s: verify: got %+v, %+v, %v, want the same as from Next", name, header, trailer, err)
		}
	}
	_, trailer, _ := backup.Verify(bytes.NewReader(written(t, someRecords()...)))
	digest := replication.DigestOf("a", at(3)) ^ replication.DigestOf("b", at(1)) ^ replication.DigestOf("d", at(4))
	want := backup.Trailer{Keys: 3, Deletions: 1, Bytes: 9, Digest: fmt.Sprintf("%016x", digest), SHA256: trailer.SHA256}
	if trailer != want {
		t.Errorf("trailer: got %+v, want %+v", trailer, want)
	}
}

func TestAnyRecordsAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.MapOf(rapid.StringMatching("[a-zA-Z0-9]{1,30}"), rapid.SliceOf(rapid.Byte())).Draw(t, "keys")
		var records []replication.Record
		for _, key := range sortedKeys(keys) {
			n := rapid.Uint64Range(1, 1<<20).Draw(t, "version")
			r := replication.Record{Key: key, Version: at(n), Deleted: true}
			if rapid.Bool().Draw(t, "live") {
				r = replication.Record{Key: key, Version: at(n), Value: append([]byte{}, keys[key]...), ContentType: "a/b"}
			}
			records = append(records, r)
		}
		var file bytes.Buffer
		w, err := backup.NewWriter(&file, someHeader, new(seen.Set))
		for _, r := range records {
			if err := w.Write(r); err != nil {
				t.Fatal(err)
			}
		}
		if _, closed := w.Close(new(seen.Set)); err != nil || closed != nil {
			t.Fatal(err, closed)
		}
		_, got, err := read(iotest.HalfReader(&file))
		if diff := cmp.Diff(records, got); err != nil || diff != "" {
			t.Fatalf("error %v; -want +got\n%s", err, diff)
		}
	})
}

func sortedKeys(m map[string][]byte) (keys []string) {
	for key := range m {
		keys = append(keys, key)
	}
	// Not slices.Sort: an own order, so that the format's is the one of bytes and not of a library.
	for i := range keys {
		for j := i; j > 0 && keys[j] < keys[j-1]; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

// verifier says whether a file is whole.
type verifier func(file []byte) error

func verify(file []byte) error {
	_, _, err := backup.Verify(bytes.NewReader(file))
	return err
}

// cuts returns at how many lengths a cut file is taken for whole.
func cuts(file []byte, verify verifier) (taken int) {
	for n := range file {
		if verify(file[:n]) == nil {
			taken++
		}
	}
	return taken
}

func TestCutFileIsRefusedWhereverItWasCut(t *testing.T) {
	file := written(t, someRecords()...)
	if err := verify(file); err != nil {
		t.Fatal(err)
	}
	if got := cuts(file, verify); got != 0 {
		t.Errorf("%d of %d cut files were taken for whole", got, len(file))
	}
	for n := range file {
		if err := verify(file[:n]); !errors.Is(err, backup.ErrDamaged) {
			t.Fatalf("cut after %d bytes: got %v, want ErrDamaged", n, err)
		}
	}
	// Who takes the end of the input for the end of the backup, without a trailer, is found out by the same.
	careless := func(file []byte) error {
		_, _, err := read(bytes.NewReader(file))
		if err != nil && strings.Contains(err.Error(), "it ends here") {
			return nil
		}
		return err
	}
	if cuts(file, careless) == 0 {
		t.Error("a reader that wants no trailer is not found out")
	}
}

func TestFlippedByteIsFoundWhereverItIs(t *testing.T) {
	file := written(t, someRecords()...)
	for i := range file {
		for _, flip := range []byte{0x01, 0x80, 0xff, file[i]} { // the last one makes it zero
			changed := bytes.Clone(file)
			changed[i] ^= flip
			if bytes.Equal(changed, file) {
				continue
			}
			if err := verify(changed); !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrFormat) {
				t.Fatalf("byte %d ^ %#x: got %v, want it refused", i, flip, err)
			}
		}
	}
}

// frames cuts a file into its first line and its frames.
func frames(t *testing.T, file []byte) (parts [][]byte) {
	t.Helper()
	line := bytes.IndexByte(file, '\n') + 1
	parts, file = append(parts, file[:line]), file[line:]
	for len(file) > 0 {
		size := 1 + 4 + int(binary.BigEndian.Uint32(file[1:])) + 4
		parts, file = append(parts, file[:size]), file[size:]
	}
	return parts
}

func TestFramesThatAreLeftOutRepeatedOrMovedAreFound(t *testing.T) {
	parts := frames(t, written(t, someRecords()...))
	if len(parts) != 1+2+4+2 {
		t.Fatalf("got %d parts", len(parts))
	}
	refused := func(what string, i int, parts ...[]byte) {
		t.Helper()
		if err := verify(bytes.Join(parts, nil)); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%s %d: got %v, want ErrDamaged", what, i, err)
		}
	}
	for i := range parts {
		refused("without part", i, append(append([][]byte{}, parts[:i]...), parts[i+1:]...)...)
		refused("twice part", i, append(append([][]byte{}, parts[:i+1]...), parts[i:]...)...)
		if i > 0 {
			swapped := append([][]byte{}, parts...)
			swapped[i], swapped[i-1] = swapped[i-1], swapped[i]
			refused("out of place part", i, swapped...)
		}
	}
	refused("one more byte", 0, append(parts, []byte{0})...)
	refused("another backup behind it", 0, append(parts, parts...)...)
}

func TestGoodRecordsComeBeforeTheDamage(t *testing.T) {
	file := written(t, someRecords()...)
	parts := frames(t, file)
	_, got, err := read(bytes.NewReader(bytes.Join(parts[:5], nil)))
	if diff := cmp.Diff(someRecords()[:2], got); !errors.Is(err, backup.ErrDamaged) || diff != "" {
		t.Errorf("cut after two records: error %v, records -want +got\n%s", err, diff)
	}
}

// A record that is missing is noticed at the next one, and not only at the end: what comes by a pipe is restored as it comes.
func TestRecordBehindOneThatIsMissingIsNotTaken(t *testing.T) {
	parts := frames(t, written(t, someRecords()...))
	_, got, err := read(bytes.NewReader(bytes.Join(append(parts[:4:4], parts[5:]...), nil)))
	if diff := cmp.Diff(someRecords()[:1], got); !errors.Is(err, backup.ErrDamaged) || diff != "" {
		t.Errorf("without the second of four: error %v, records -want +got\n%s", err, diff)
	}
}

// resealed returns the file of these parts with sums as doc.go describes them.
func resealed(parts [][]byte) []byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Checksum(parts[0], table)
	file := bytes.Clone(parts[0])
	for _, frame := range parts[1:] {
		frame = frame[:len(frame)-4]
		sum = crc32.Checksum(append(binary.BigEndian.AppendUint32(nil, sum), frame...), table)
		file = binary.BigEndian.AppendUint32(append(file, frame...), sum)
	}
	return file
}

// All sums are right, and the trailer is one of another file: the writer lost a record, say.
func TestTrailerMustFitWhatWasRead(t *testing.T) {
	all := frames(t, written(t, someRecords()...))
	if file := resealed(all); !bytes.Equal(file, bytes.Join(all, nil)) {
		t.Fatal("the sums are not what doc.go says")
	}
	for i := 3; i < 3+len(someRecords()); i++ {
		if err := verify(resealed(append(all[:i:i], all[i+1:]...))); !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), "the trailer tells of") {
			t.Errorf("without part %d: got %v, want that the trailer does not fit", i, err)
		}
	}
}

func TestLaterFormatIsNamed(t *testing.T) {
	file := bytes.Replace(written(t), []byte("snakes-backup 1"), []byte("snakes-backup 2"), 1)
	if err := verify(file); !errors.Is(err, backup.ErrFormat) || !strings.Contains(err.Error(), "later release") {
		t.Errorf("got %v, want ErrFormat", err)
	}
}

func TestErrorsOfTheInputAreNoDamage(t *testing.T) {
	broken := errors.New("broken")
	file := written(t, someRecords()...)
	for _, n := range []int{0, 5, 40, 300, len(file)} {
		n = min(n, len(file))
		_, _, err := backup.Verify(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || errors.Is(err, backup.ErrDamaged) {
			t.Errorf("broken after %d bytes: got %v", n, err)
		}
	}
}

func TestLengthsThatAreClaimedTakeNoMemory(t *testing.T) {
	file := written(t)
	line := bytes.IndexByte(file, '\n') + 1
	claim := append(bytes.Clone(file[:line]), 'h', 0x03, 0xff, 0xff, 0xff)
	allocated := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if err := verify(claim); !errors.Is(err, backup.ErrDamaged) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 4<<20 {
		t.Errorf("a claim of 64 MiB took %d bytes", allocated)
	}
}

func TestWriterTakesNoRecordThatIsNone(t *testing.T) {
	for name, bad := range map[string]replication.Record{
		"key":                 {Key: "a-b", Version: at(1)},
		"no version":          {Key: "x"},
		"no origin":           {Key: "x", Version: version.Version{Dot: version.Dot{Counter: 1}}},
		"out of order":        {Key: "a", Version: at(1)},
		"deletion of a value": {Key: "x", Version: at(1), Deleted: true, Value: []byte("v")},
		"long content type":   {Key: "x", Version: at(1), ContentType: strings.Repeat("x", 256)},
		"two headers":         {Key: "x", Version: at(1), ContentType: "a/b\r\nX: y"},
	} {
		var file bytes.Buffer
		w, err := backup.NewWriter(&file, someHeader, new(seen.Set))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(replication.Record{Key: "b", Version: at(1)}); err != nil {
			t.Fatal(err)
		}
		first := w.Write(bad)
		_, second := w.Close(new(seen.Set))
		if first == nil || second == nil || verify(file.Bytes()) == nil {
			t.Errorf("%s: got %v, then %v, and a file that is whole: %t", name, first, second, verify(file.Bytes()) == nil)
		}
	}
}

func TestErrorOfTheDestinationSticks(t *testing.T) {
	broken := errors.New("broken")
	r, w := io.Pipe()
	_ = r.CloseWithError(broken) // it does not fail
	if _, err := backup.NewWriter(w, someHeader, new(seen.Set)); !errors.Is(err, broken) {
		t.Errorf("got %v, want the destination's error", err)
	}
}

// FuzzVerify: whatever it is, reading it ends, and what is taken for whole is the same when it is written again.
func FuzzVerify(f *testing.F) {
	f.Add(written(f, someRecords()...))
	f.Add(written(f))
	f.Fuzz(func(t *testing.T, file []byte) {
		b, records, err := read(bytes.NewReader(file))
		if err != nil {
			if !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrFormat) {
				t.Fatalf("got %v, want ErrDamaged or ErrFormat", err)
			}
			return
		}
		var again bytes.Buffer
		w, err := backup.NewWriter(&again, b.Header(), b.Seen())
		for _, r := range records {
			if err == nil {
				err = w.Write(r)
			}
		}
		if err == nil {
			_, err = w.Close(b.Collected())
		}
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, same, err := read(&again); err != nil || !cmp.Equal(records, same) {
			t.Fatalf("what was written again is other: %v", err)
		}
	})
}

// The file of an earlier build is read by this one.
func TestGoldenFileIsRead(t *testing.T) {
	path := filepath.Join("testdata", "format1.backup")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, written(t, someRecords()...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, got, err := read(bytes.NewReader(file)); err != nil || !cmp.Equal(someRecords(), got) {
		t.Errorf("got %v, error %v, want what was written", got, err)
	}
	if !bytes.Equal(file, written(t, someRecords()...)) {
		t.Error("what is written now is another file; a new format needs a new number")
	}
}
