package node

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// The bodies between nodes are made of these parts. Numbers are unsigned varints unless a
// width is given, which then is big-endian; text and bytes are a length and what it counts.
//
//	record   key, version (28 bytes), flags (1), content type, value
//	meta     version (28 bytes), flags (1), size
//	outcome  name of an error's kind, then its text; the name is empty for none, and the
//	         current meta follows instead
//	status   origin (8), clock wall (8), clock logical (4), wall in ns (8), keys, tombstones,
//	         hash of the seen set (8), digest (8), keys pulled, keys offered, flags (1), the
//	         seen set and what is recalled if they are there
//	pulling  seen set, state of the asking node's roster
//	pull     id (8), number of keys, seen set, collected set
//	buckets  4,096 digests (8)
//	held     key, version (28 bytes), flags (1)
//	span     prefix, key to begin after, limit
//	stretch  flags (1), entries (key, meta) with their number before them
//	members  what GET /-/members answers, as JSON
//	page     number to ask for next, flags (1), records with their number before them
//	error    name of the error's kind, then its text
//
// A batch is a list: how many there are, and then records to write or keys to look up. Numbers of
// buckets, what they hold, and outcomes, one for each record or key in order, are lists, too. The
// body of a request is a list, one of the above, a key, or empty. So is the body of an answer (with
// status 200; an error with any other), and then the state of the answering node's roster follows,
// empty if the asker has the same.
const (
	flagDeleted = 1 << 0 // of record, meta and held
	// flagSeen and those after it are of status.
	flagSeen     = 1 << 0
	flagRecall   = 1 << 1
	flagRecalled = 1 << 2
	// flagIncomplete is of page, flagMore of stretch.
	flagIncomplete = 1 << 0
	flagMore       = 1 << 0

	// maxErrorText is the length of the longest text that goes along with an error.
	maxErrorText = 512
	// minKey and those after it are the lengths of the shortest ones.
	minKey     = 1 + 1
	minRecord  = 1 + 1 + version.Size + 1 + 1 + 1
	minOutcome = 1 + 1
	minHeld    = 1 + 1 + version.Size + 1
	minEntry   = minHeld + 1
)

func appendText[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendVersion(b []byte, v version.Version) []byte {
	b, _ = v.AppendBinary(b) // the error is always nil
	return b
}

func deletedFlag(deleted bool) byte {
	if deleted {
		return flagDeleted
	}
	return 0
}

func appendRecord(b []byte, r replication.Record) []byte {
	b = appendText(b, r.Key)
	b = appendVersion(b, r.Version)
	b = append(b, deletedFlag(r.Deleted))
	b = appendText(b, r.ContentType)
	return appendText(b, r.Value)
}

// recordRoom returns enough room for r in its binary form.
func recordRoom(r replication.Record) int {
	return minRecord + 3*binary.MaxVarintLen64 + len(r.Key) + len(r.ContentType) + len(r.Value)
}

// recordsRoom returns enough room for the records in their binary form, without their number.
func recordsRoom(records []replication.Record) int {
	room := 0
	for _, r := range records {
		room += recordRoom(r)
	}
	return room
}

func appendRecords(b []byte, records []replication.Record) []byte {
	return appendBatch(b, len(records), [][]replication.Record{records})
}

// appendBatch appends the records of all parts as one list; count is how many there are.
func appendBatch(b []byte, count int, parts [][]replication.Record) []byte {
	b = binary.AppendUvarint(b, uint64(count))
	for _, records := range parts {
		for _, r := range records {
			b = appendRecord(b, r)
		}
	}
	return b
}

func appendKeys(b []byte, keys []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, key := range keys {
		b = appendText(b, key)
	}
	return b
}

func appendMeta(b []byte, m replication.Meta) []byte {
	b = appendVersion(b, m.Version)
	b = append(b, deletedFlag(m.Deleted))
	return binary.AppendUvarint(b, uint64(m.Size))
}

// outcomesRoom returns enough room for n outcomes without errors, with their number, and an empty
// state behind them.
func outcomesRoom(n int) int { return 11 + n*(2+version.Size+binary.MaxVarintLen64) }

func appendOutcomes(b []byte, outcomes []replication.Outcome) []byte {
	b = binary.AppendUvarint(b, uint64(len(outcomes)))
	for _, o := range outcomes {
		if o.Err != nil {
			b = appendError(b, o.Err)
			continue
		}
		b = appendText(b, "")
		b = appendMeta(b, o.Current)
	}
	return b
}

func appendError(b []byte, err error) []byte {
	text := err.Error()
	return appendText(appendText(b, kindOf(err).name), text[:min(len(text), maxErrorText)])
}

func appendStatus(b []byte, s replication.Status) []byte {
	b = binary.BigEndian.AppendUint64(b, s.Origin)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Clock.Wall))
	b = binary.BigEndian.AppendUint32(b, s.Clock.Logical)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Wall.UnixNano()))
	b = binary.AppendUvarint(b, s.Keys)
	b = binary.AppendUvarint(b, s.Tombstones)
	b = binary.BigEndian.AppendUint64(b, s.SeenHash)
	b = binary.BigEndian.AppendUint64(b, s.Digest)
	b = binary.AppendUvarint(b, s.Pulled)
	b = binary.AppendUvarint(b, s.Offered)
	b = binary.AppendUvarint(b, s.Life)
	b = binary.AppendUvarint(b, s.RecalledLife)
	var flags byte
	for flag, set := range map[byte]bool{
		flagSeen: s.Seen != nil, flagRecall: s.Recall, flagRecalled: s.Recalled != nil,
	} {
		if set {
			flags |= flag
		}
	}
	b = append(b, flags)
	for _, set := range []*seen.Set{s.Seen, s.Recalled} {
		if set != nil {
			b, _ = set.AppendBinary(b) // the error is always nil
		}
	}
	return b
}

// decoder reads from rest until the first error, which sticks. What it returns shares the
// memory of rest. It allocates in proportion to len(rest), whatever the input claims.
type decoder struct {
	rest []byte
	err  error
}

// end returns the first error, or one if anything is left.
func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d bytes too many", len(d.rest))
	}
	return d.err
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errBadMessage, fmt.Sprintf(format, args...))
	}
	d.rest = nil
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.fail("ends early")
		return nil
	}
	taken := d.rest[:n:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.fail("ends early or has a number beyond 64 bits")
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// flags reads one byte that has no bits but those known.
func (d *decoder) flags(known byte) byte {
	b := d.take(1)
	if b == nil {
		return 0
	}
	if b[0]&^known != 0 {
		d.fail("unknown flags %#x", b[0])
	}
	return b[0]
}

func (d *decoder) bytes() []byte { return d.take(d.uvarint()) }

func (d *decoder) text(limit int) string {
	b := d.bytes()
	if len(b) > limit {
		d.fail("text of %d bytes where %d are the limit", len(b), limit)
		return ""
	}
	return string(b)
}

// count reads how many items follow, each of at least size bytes.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/size) {
		d.fail("claims %d items in %d bytes", n, len(d.rest))
		return 0
	}
	return int(n)
}

// version reads the version of a record, which is never zero nor without origin and counter.
func (d *decoder) version() version.Version {
	b := d.take(version.Size)
	if d.err != nil {
		return version.Version{}
	}
	v, err := version.Decode(b)
	if err != nil {
		d.fail("%v", err)
	} else if v.Origin == 0 || v.Counter == 0 {
		d.fail("version %v names no write", v)
	} else if err := v.Timestamp.Valid(); err != nil {
		d.fail("%v", err)
	}
	return v
}

func (d *decoder) key() string {
	key := d.text(replication.MaxKeyBytes)
	if d.err == nil {
		if err := replication.ValidKey(key); err != nil {
			d.fail("%v", err)
		}
	}
	return key
}

func (d *decoder) keys() []string {
	keys := make([]string, d.count(minKey))
	for i := range keys {
		keys[i] = d.key()
	}
	return keys
}

func (d *decoder) record() replication.Record {
	r := replication.Record{Key: d.key(), Version: d.version(), Deleted: d.flags(flagDeleted) != 0}
	r.ContentType = d.contentType()
	r.Value = d.bytes()
	if r.Deleted && (r.ContentType != "" || len(r.Value) > 0) {
		d.fail("tombstone with a value")
	}
	if !printable(r.ContentType) {
		d.fail("content type with odd characters")
	}
	return r
}

// contentType reads a content type. Most are the same, which takes no memory.
func (d *decoder) contentType() string {
	if rest := d.rest; len(rest) > len(plainText) && rest[0] == byte(len(plainText)) && string(rest[1:1+len(plainText)]) == plainText {
		d.rest = rest[1+len(plainText):]
		return plainText
	}
	return d.text(maxContentType)
}

func (d *decoder) records() []replication.Record {
	records := make([]replication.Record, d.count(minRecord))
	for i := range records {
		records[i] = d.record()
	}
	return records
}

func (d *decoder) meta() replication.Meta {
	m := replication.Meta{Version: d.version(), Deleted: d.flags(flagDeleted) != 0, Size: int64(d.uvarint())}
	if m.Size < 0 || m.Deleted && m.Size != 0 {
		d.fail("size %d of a record, deleted %t", m.Size, m.Deleted)
	}
	return m
}

// outcomes reads one outcome for each of n records or keys.
func (d *decoder) outcomes(n int) []replication.Outcome {
	if count := d.count(minOutcome); count != n {
		d.fail("%d outcomes where %d were asked for", count, n)
		return nil
	}
	outcomes := make([]replication.Outcome, n)
	for i := range outcomes {
		if name := d.text(maxErrorText); name != "" {
			outcomes[i].Err = d.remoteError(name)
		} else {
			outcomes[i].Current = d.meta()
		}
	}
	return outcomes
}

// remoteError reads what follows the name of an error's kind.
func (d *decoder) remoteError(name string) error {
	return &remoteError{text: d.text(maxErrorText), cause: causeNamed(name)}
}

func (d *decoder) status() replication.Status {
	s := replication.Status{
		Origin: d.uint64(),
		Clock:  version.Timestamp{Wall: int64(d.uint64()), Logical: d.uint32()},
		Wall:   time.Unix(0, int64(d.uint64())),
		Keys:   d.uvarint(), Tombstones: d.uvarint(),
		SeenHash: d.uint64(), Digest: d.uint64(),
		Pulled: d.uvarint(), Offered: d.uvarint(),
		Life: d.uvarint(), RecalledLife: d.uvarint(),
	}
	if err := s.Clock.Valid(); err != nil {
		d.fail("%v", err)
	}
	flags := d.flags(flagSeen | flagRecall | flagRecalled)
	s.Recall = flags&flagRecall != 0
	if flags&flagSeen != 0 {
		s.Seen = d.seen()
		if d.err == nil && s.Seen.Hash() != s.SeenHash {
			d.fail("seen set with another hash than announced")
		}
	}
	if flags&flagRecalled != 0 {
		s.Recalled = d.seen()
	}
	return s
}

// remoteError is an error of another node: it is what it was there, by errors.Is.
type remoteError struct {
	text  string
	cause error
}

// Error implements error.
func (e *remoteError) Error() string { return e.text }

// Unwrap is for errors.Is and errors.As.
func (e *remoteError) Unwrap() error { return e.cause }

// appendPull appends what is offered to another node.
func appendPull(b []byte, p replication.Pull) []byte {
	b = binary.BigEndian.AppendUint64(b, p.ID)
	b = binary.AppendUvarint(b, p.Keys)
	b, _ = p.Seen.AppendBinary(b) // the error is always nil
	collected := p.Collected
	if collected == nil {
		collected = new(seen.Set)
	}
	b, _ = collected.AppendBinary(b)
	return b
}

func (d *decoder) pull() replication.Pull {
	return replication.Pull{ID: d.uint64(), Keys: d.uvarint(), Seen: d.seen(), Collected: d.seen()}
}

// appendPage appends a page of a pull.
func appendPage(b []byte, p replication.Page) []byte {
	b = binary.AppendUvarint(b, p.Next)
	if p.Incomplete {
		b = append(b, flagIncomplete)
	} else {
		b = append(b, 0)
	}
	return appendRecords(b, p.Records)
}

func (d *decoder) page() replication.Page {
	return replication.Page{Next: d.uvarint(), Incomplete: d.flags(flagIncomplete) != 0, Records: d.records()}
}

// seen reads a seen set.
func (d *decoder) seen() *seen.Set {
	if d.err != nil {
		return new(seen.Set)
	}
	set, rest, err := seen.Decode(d.rest)
	if err != nil {
		d.fail("%v", err)
		return new(seen.Set)
	}
	d.rest = rest
	return set
}

// appendNumbers appends small numbers with their number before them.
func appendNumbers(b []byte, numbers []int) []byte {
	b = binary.AppendUvarint(b, uint64(len(numbers)))
	for _, n := range numbers {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

// numbers reads numbers from 0 to below limit.
func (d *decoder) numbers(limit int) []int {
	numbers := make([]int, d.count(1))
	for i := range numbers {
		n := d.uvarint()
		if n >= uint64(limit) {
			d.fail("number %d where %d is the limit", n, limit)
			return nil
		}
		numbers[i] = int(n)
	}
	return numbers
}

func appendBuckets(b []byte, buckets []uint64) []byte {
	for _, digest := range buckets {
		b = binary.BigEndian.AppendUint64(b, digest)
	}
	return b
}

// buckets reads the digests of all buckets.
func (d *decoder) buckets() []uint64 {
	buckets := make([]uint64, replication.DigestBuckets)
	for i := range buckets {
		buckets[i] = d.uint64()
	}
	return buckets
}

func appendHeld(b []byte, held []replication.Held) []byte {
	b = binary.AppendUvarint(b, uint64(len(held)))
	for _, h := range held {
		b = appendVersion(appendText(b, h.Key), h.Version)
		b = append(b, deletedFlag(h.Deleted))
	}
	return b
}

// held reads what keys hold.
func (d *decoder) held() []replication.Held {
	held := make([]replication.Held, d.count(minHeld))
	for i := range held {
		held[i] = replication.Held{Key: d.key(), Version: d.version(), Deleted: d.flags(flagDeleted) != 0}
	}
	return held
}

func appendSpan(b []byte, s replication.Span) []byte {
	return binary.AppendUvarint(appendText(appendText(b, s.Prefix), s.After), uint64(s.Limit))
}

// span reads a span of keys, which may be none that can be asked for.
func (d *decoder) span() replication.Span {
	s := replication.Span{Prefix: d.text(replication.MaxKeyBytes), After: d.text(replication.MaxKeyBytes)}
	if limit := d.uvarint(); limit > replication.MaxSpan {
		d.fail("%d keys where %d are the limit", limit, replication.MaxSpan)
	} else {
		s.Limit = int(limit)
	}
	return s
}

func appendStretch(b []byte, s replication.Stretch) []byte {
	var flags byte
	if s.More {
		flags = flagMore
	}
	b = binary.AppendUvarint(append(b, flags), uint64(len(s.Entries)))
	for _, e := range s.Entries {
		b = appendMeta(appendText(b, e.Key), e.Meta)
	}
	return b
}

// stretch reads what a node knows of a span of keys.
func (d *decoder) stretch() replication.Stretch {
	s := replication.Stretch{More: d.flags(flagMore) != 0}
	s.Entries = make([]replication.Entry, d.count(minEntry))
	for i := range s.Entries {
		s.Entries[i] = replication.Entry{Key: d.key(), Meta: d.meta()}
	}
	return s
}
