package backup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
)

// Writer writes a backup. Not safe for concurrent use.
type Writer struct {
	w     io.Writer
	sha   hash.Hash
	sum   uint32 // of the frame before
	b     []byte // what is made of a frame, again and again
	tally tally
	err   error // the first one, which sticks
}

// NewWriter begins a backup on w: header, and what was seen by the node that writes it before it looked at the records.
// It writes many small pieces, which w should gather. The error is w's.
func NewWriter(w io.Writer, header Header, seen *seen.Set) (*Writer, error) {
	b := &Writer{w: w, sha: sha256.New(), sum: crc32.Checksum([]byte(magic), castagnoli)}
	b.put([]byte(magic))
	text, err := json.Marshal(header)
	if err != nil || len(text) > maxText {
		return nil, errors.Join(fmt.Errorf("header of %d bytes", len(text)), err)
	}
	b.frame(kindHeader, text, nil)
	set, _ := seen.AppendBinary(nil) // the error is always nil
	b.frame(kindSeen, set, nil)
	return b, b.err
}

// Write adds a record, which is not changed or kept. Keys must be ascending. The error says that the record can be in no
// backup, or is that of the destination; there is nothing more to write then.
func (b *Writer) Write(r replication.Record) error {
	if b.err == nil {
		b.err = b.tally.add(r)
	}
	b.frame(kindRecord, appendRecord(b.b[:0], r), r.Value)
	return b.err
}

// Close ends the backup, which is not whole without. collected are the writes that may have been deletions of which
// nothing is left. The destination is not closed.
func (b *Writer) Close(collected *seen.Set) (Trailer, error) {
	set, _ := collected.AppendBinary(nil) // the error is always nil
	b.frame(kindCollected, set, nil)
	trailer := b.tally.trailer(b.sha.Sum(nil))
	text, err := json.Marshal(trailer)
	if err != nil {
		return Trailer{}, err
	}
	b.frame(kindTrailer, text, nil)
	return trailer, b.err
}

// frame writes a frame whose body is in two parts.
func (b *Writer) frame(k kind, body, rest []byte) {
	if length := len(body) + len(rest); length > maxBody {
		b.err = errors.Join(b.err, fmt.Errorf("frame %c of %d bytes", k, length))
	}
	head := binary.BigEndian.AppendUint32([]byte{byte(k)}, uint32(len(body)+len(rest)))
	b.sum = crc32.Update(frameSum(b.sum, head, body), castagnoli, rest)
	b.put(head)
	b.put(body)
	b.put(rest)
	b.put(binary.BigEndian.AppendUint32(nil, b.sum))
	b.b = body
}

func (b *Writer) put(data []byte) {
	if b.err != nil || len(data) == 0 {
		return
	}
	_, _ = b.sha.Write(data) // the error is always nil
	_, b.err = b.w.Write(data)
}
