package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strings"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
)

const (
	// readBuffer is how much is read at once.
	readBuffer = 64 << 10
	// firstBody is how much memory a body gets on the word of its length alone.
	firstBody = 1 << 20
)

// Reader reads a backup from its beginning to its end, once. Not safe for concurrent use.
type Reader struct {
	r         *bufio.Reader
	sha       hash.Hash
	sum       uint32 // of the last frame
	at        int64  // the offset of the next byte
	tally     tally
	header    Header
	seen      *seen.Set
	collected *seen.Set
	trailer   Trailer
	err       error // the first one, which sticks
}

// NewReader reads the beginning of a backup from r. It reads ahead. Errors wrap ErrDamaged or ErrFormat, or are r's.
func NewReader(r io.Reader) (*Reader, error) {
	b := &Reader{r: bufio.NewReaderSize(r, readBuffer), sha: sha256.New(), sum: crc32.Checksum([]byte(magic), castagnoli)}
	if err := b.first(); err != nil {
		return nil, err
	}
	text, err := b.expect(kindHeader)
	if err == nil {
		err = b.decode(text, &b.header)
	}
	if err == nil {
		b.seen, err = b.set(kindSeen)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Header says where the backup comes from.
func (b *Reader) Header() Header { return b.header }

// Seen returns what the node that wrote the backup had seen: of each of these writes the backup has the record, or a
// newer one of its key, or it was a deletion of which nothing was left. The set must not be changed.
func (b *Reader) Seen() *seen.Set { return b.seen }

// Collected returns the writes that may have been such deletions, and Trailer what was in the backup, once Next has
// returned io.EOF. The set must not be changed.
func (b *Reader) Collected() *seen.Set { return b.collected }

// Trailer is described with Collected.
func (b *Reader) Trailer() Trailer { return b.trailer }

// Next returns the next record, by ascending key, whose value belongs to the caller; io.EOF after the last one if the
// backup is whole. Other errors wrap ErrDamaged or are those of reading; there is nothing more to read then.
func (b *Reader) Next() (replication.Record, error) {
	if b.err != nil {
		return replication.Record{}, b.err
	}
	var r replication.Record
	r, b.err = b.next()
	return r, b.err
}

// Verify reads a backup to its end. Errors as for NewReader and Reader.Next; the Header is there if it could be read.
func Verify(r io.Reader) (Header, Trailer, error) {
	b, err := NewReader(r)
	if err != nil {
		return Header{}, Trailer{}, err
	}
	for err == nil {
		_, err = b.Next()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b.header, b.trailer, err
}

func (b *Reader) next() (replication.Record, error) {
	at := b.at
	k, body, err := b.frame()
	switch {
	case err != nil:
		return replication.Record{}, err
	case k == kindCollected:
		if b.collected, err = b.parseSet(body); err == nil {
			err = b.end()
		}
		return replication.Record{}, err
	case k != kindRecord:
		return replication.Record{}, damaged(at, "a frame of kind %q where a record should be", byte(k))
	}
	r, err := parseRecord(body)
	if err == nil {
		err = b.tally.add(r)
	}
	if err != nil {
		return replication.Record{}, damaged(at, "%v", err)
	}
	return r, nil
}

// end reads the trailer and what is behind it, and returns io.EOF if all is well.
func (b *Reader) end() error {
	at, sum := b.at, b.sha.Sum(nil)
	text, err := b.expect(kindTrailer)
	if err != nil {
		return err
	}
	var trailer Trailer
	if err := b.decode(text, &trailer); err != nil {
		return err
	}
	if want := b.tally.trailer(sum); trailer != want {
		return damaged(at, "the trailer tells of %+v, and it is %+v", trailer, want)
	}
	switch _, err := b.r.ReadByte(); {
	case err == nil:
		return damaged(b.at, "there is more after the trailer")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("read the backup: %w", err)
	}
	b.trailer = trailer
	return io.EOF
}

// first reads the first line.
func (b *Reader) first() error {
	line := make([]byte, len(magic))
	n, err := b.read(line)
	switch {
	case string(line) == magic:
		return nil
	case err != nil && !errors.Is(err, ErrDamaged):
		return err
	case strings.HasPrefix(string(line[:n]), mark) && line[len(mark)] >= '2' && line[len(mark)] <= '9':
		return fmt.Errorf("%w: %q; a later release of snakes reads it", ErrFormat, bytes.TrimSpace(line[:n]))
	}
	return damaged(0, "it does not begin as a backup does")
}

// expect reads a frame of kind want.
func (b *Reader) expect(want kind) ([]byte, error) {
	at := b.at
	k, body, err := b.frame()
	if err == nil && k != want {
		err = damaged(at, "a frame of kind %q where one of kind %q should be", byte(k), byte(want))
	}
	return body, err
}

func (b *Reader) set(k kind) (*seen.Set, error) {
	body, err := b.expect(k)
	if err != nil {
		return nil, err
	}
	return b.parseSet(body)
}

func (b *Reader) parseSet(body []byte) (*seen.Set, error) {
	set, rest, err := seen.Decode(body)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	if err != nil {
		return nil, damaged(b.at, "set of writes: %v", err)
	}
	return set, nil
}

func (b *Reader) decode(text []byte, into any) error {
	if len(text) > maxText {
		return damaged(b.at, "a text of %d bytes", len(text))
	}
	if err := json.Unmarshal(text, into); err != nil {
		return damaged(b.at, "%v", err)
	}
	return nil
}

// frame reads the next frame. Its body is new memory.
func (b *Reader) frame() (kind, []byte, error) {
	at := b.at
	var head [headSize]byte
	if _, err := b.read(head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > maxBody {
		return 0, nil, damaged(at, "a frame of %d bytes", length)
	}
	body, err := b.body(int(length))
	if err != nil {
		return 0, nil, err
	}
	var sum [sumSize]byte
	if _, err := b.read(sum[:]); err != nil {
		return 0, nil, err
	}
	b.sum = frameSum(b.sum, head[:], body)
	if got := binary.BigEndian.Uint32(sum[:]); got != b.sum {
		return 0, nil, damaged(at, "checksum %08x, want %08x", got, b.sum)
	}
	return kind(head[0]), body, nil
}

// body reads so many bytes, and takes no more than twice the memory of what is there.
func (b *Reader) body(length int) ([]byte, error) {
	body := make([]byte, 0, min(length, firstBody))
	for len(body) < length {
		if len(body) == cap(body) {
			grown := make([]byte, len(body), min(length, 2*len(body)))
			copy(grown, body)
			body = grown
		}
		n, err := b.read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err != nil {
			return nil, err
		}
	}
	return body, nil
}

// read fills p. At the end of the input the error wraps ErrDamaged.
func (b *Reader) read(p []byte) (int, error) {
	n, err := io.ReadFull(b.r, p)
	_, _ = b.sha.Write(p[:n]) // the error is always nil
	b.at += int64(n)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return n, damaged(b.at, "it ends here")
	case err != nil:
		return n, fmt.Errorf("read the backup: %w", err)
	}
	return n, nil
}

// damaged returns an error for what is wrong with the frame at an offset.
func damaged(at int64, format string, args ...any) error {
	return fmt.Errorf("%w: at byte %d: %s", ErrDamaged, at, fmt.Sprintf(format, args...))
}
