package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// ContentType is the media type of a backup.
const ContentType = "application/vnd.snakes.backup"

const (
	// mark is what all files begin with, magic the first line of those of this format.
	mark  = "snakes-backup "
	magic = mark + "1\n"
	// headSize is the length of a frame's kind and length, sumSize that of its sum.
	headSize = 1 + 4
	sumSize  = 4
	// MaxValue is the length of the longest value in a file, in bytes: no node takes a longer one.
	MaxValue = 64 << 20
	// MaxContentType is the length of the longest content type.
	MaxContentType = 255
	// maxBody is the length of the longest body of a frame.
	maxBody = MaxValue + 1 + replication.MaxKeyBytes + version.Size + 1 + 2 + MaxContentType
	// maxText is the length of the longest header and trailer.
	maxText = 64 << 10

	flagDeleted = 1 << 0
)

// kind says what a frame holds.
type kind byte

const (
	kindHeader    kind = 'h'
	kindSeen      kind = 's'
	kindRecord    kind = 'r'
	kindCollected kind = 'c'
	kindTrailer   kind = 't'
)

var (
	// ErrDamaged is wrapped by the errors of reading what is no whole backup: it was cut, changed, or never was one.
	ErrDamaged = errors.New("not a whole backup")
	// ErrFormat is wrapped by the errors of reading a backup of a later format.
	ErrFormat = errors.New("backup of another format")
)

// Header says where a backup comes from.
type Header struct {
	// Cluster is the name of the cluster, ClusterID its id.
	Cluster   string `json:"cluster"`
	ClusterID string `json:"cluster_id"`
	// Node is the name of the node that wrote it, NodeID its id, Release the release that it ran.
	Node    string `json:"node"`
	NodeID  string `json:"node_id"`
	Release string `json:"release,omitempty"`
	// Time is when the backup began, by the clock of that node: all that was acknowledged before is in it.
	Time time.Time `json:"time"`
}

// Trailer says how much is in a backup.
type Trailer struct {
	// Keys is the number of keys with a value, Deletions that of keys of which the deletion is known.
	Keys      uint64 `json:"keys"`
	Deletions uint64 `json:"deletions"`
	// Bytes is the length of all values together.
	Bytes uint64 `json:"bytes"`
	// Digest is what GET /-/digest tells of a cluster that has these keys at these versions, and no others.
	Digest string `json:"digest"`
	// SHA256 is that of all bytes before the trailer, in hexadecimal.
	SHA256 string `json:"sha256"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameSum returns the sum of a frame whose kind and length are head, after one with the sum before.
func frameSum(before uint32, head, body []byte) uint32 {
	var seed [sumSize]byte
	binary.BigEndian.PutUint32(seed[:], before)
	sum := crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, head)
	return crc32.Update(sum, castagnoli, body)
}

// tally counts records.
type tally struct {
	last   string // key
	total  Trailer
	digest uint64
}

// add counts r. The error says why it cannot be the next record of a file.
func (t *tally) add(r replication.Record) error {
	if err := check(r); err != nil {
		return err
	}
	if r.Key <= t.last {
		return fmt.Errorf("key %s is not above %s", r.Key, t.last)
	}
	t.last = r.Key
	if r.Deleted {
		t.total.Deletions++
		return nil
	}
	t.total.Keys++
	t.total.Bytes += uint64(len(r.Value))
	t.digest ^= replication.DigestOf(r.Key, r.Version)
	return nil
}

// trailer returns the trailer after a file with that sum.
func (t *tally) trailer(sum []byte) Trailer {
	trailer := t.total
	trailer.Digest, trailer.SHA256 = fmt.Sprintf("%016x", t.digest), fmt.Sprintf("%x", sum)
	return trailer
}

// check returns nil if r can be in a file: it is one that every node takes.
func check(r replication.Record) error {
	if err := replication.ValidKey(r.Key); err != nil {
		return err
	}
	if err := r.Version.Timestamp.Valid(); err != nil {
		return fmt.Errorf("key %s: %w", r.Key, err)
	}
	switch {
	case r.Version.Origin == 0 || r.Version.Counter == 0:
		return fmt.Errorf("key %s: version %v names no write", r.Key, r.Version)
	case r.Deleted && (len(r.Value) > 0 || r.ContentType != ""):
		return fmt.Errorf("key %s: deletion with a value", r.Key)
	case len(r.Value) > MaxValue:
		return fmt.Errorf("key %s: value of %d bytes", r.Key, len(r.Value))
	case len(r.ContentType) > MaxContentType || !printable(r.ContentType):
		return fmt.Errorf("key %s: content type %.80q", r.Key, r.ContentType)
	}
	return nil
}

// printable reports whether s has only printable ASCII characters, as what becomes a header must.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// appendRecord appends a record without its value.
func appendRecord(b []byte, r replication.Record) []byte {
	b = append(append(b, byte(len(r.Key))), r.Key...)
	b, _ = r.Version.AppendBinary(b) // the error is always nil
	var flags byte
	if r.Deleted {
		flags = flagDeleted
	}
	b = binary.BigEndian.AppendUint16(append(b, flags), uint16(len(r.ContentType)))
	return append(b, r.ContentType...)
}

// parseRecord reads a record, which is checked by tally. Its value is a part of b.
func parseRecord(b []byte) (replication.Record, error) {
	short := errors.New("record cut short")
	if len(b) == 0 || len(b) < 1+int(b[0])+version.Size+1+2 {
		return replication.Record{}, short
	}
	var r replication.Record
	keyEnd := 1 + int(b[0])
	r.Key, b = string(b[1:keyEnd]), b[keyEnd:]
	v, err := version.Decode(b)
	if err != nil {
		return replication.Record{}, fmt.Errorf("key %.80q: %w", r.Key, err)
	}
	r.Version, b = v, b[version.Size:]
	if b[0]&^flagDeleted != 0 {
		return replication.Record{}, fmt.Errorf("key %.80q: unknown flags %#x", r.Key, b[0])
	}
	r.Deleted, b = b[0] != 0, b[1:]
	size := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; size > len(b) {
		return replication.Record{}, short
	}
	r.ContentType, b = string(b[:size]), b[size:]
	if !r.Deleted || len(b) > 0 { // a deletion with a value is refused by its check
		r.Value = b
	}
	return r, nil
}
