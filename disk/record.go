package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// A record file is one line of text and then the value as it is:
//
//	snakes1 5e1f0c3a key=foo version=18a….0.9f….7 length=10 crc32c=9ac01b22 deleted=false type="text/plain"
//
// The second word is the CRC32C of what follows it in the line, crc32c that of the value. Two
// sums, so that the line can be trusted at Open without reading the value.
const recordMark = "snakes1"

// maxContentType is the length of the longest content type in bytes, and maxHeader more than
// that of the longest header line: quoting makes at most four bytes of one.
const (
	maxContentType = 8 << 10
	maxHeader      = 4*maxContentType + 1<<10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFormat is wrapped by all errors about file content that is not what this package writes.
var errFormat = errors.New("bad file content")

// header is what the first line of a record file tells.
type header struct {
	key         string
	meta        replication.Meta
	contentType string
	sum         uint32
}

// check returns nil if r can be stored.
func check(r replication.Record) error {
	if err := replication.ValidKey(r.Key); err != nil {
		return err
	}
	switch {
	case r.Version.Origin == 0 || r.Version.Counter == 0 || r.Version.Wall < 0:
		return fmt.Errorf("key %s: version %v names no write", r.Key, r.Version)
	case r.Deleted && (len(r.Value) > 0 || r.ContentType != ""):
		return fmt.Errorf("key %s: tombstone with a value or a content type", r.Key)
	case len(r.ContentType) > maxContentType:
		return fmt.Errorf("key %s: content type of %d bytes, want at most %d", r.Key, len(r.ContentType), maxContentType)
	}
	return nil
}

// headerRoom is how long the header line of most records is at most, beyond key and content type.
const headerRoom = 150

// appendRecord appends the content of r's file to b.
func appendRecord(b []byte, r replication.Record) []byte {
	h := header{r.Key, r.Meta(), r.ContentType, crc32.Checksum(r.Value, castagnoli)}
	return append(h.append(b), r.Value...)
}

// append appends the header line, its newline included, to b.
func (h header) append(b []byte) []byte {
	sumAt := len(b) + len(recordMark) + 1
	b = append(append(b, recordMark...), " 01234567 "...)
	b = append(append(b, "key="...), h.key...)
	b, _ = h.meta.Version.AppendText(append(b, " version="...)) // the error is always nil
	b = strconv.AppendInt(append(b, " length="...), h.meta.Size, 10)
	b = appendHex(append(b, " crc32c="...), h.sum)
	b = strconv.AppendBool(append(b, " deleted="...), h.meta.Deleted)
	b = strconv.AppendQuote(append(b, " type="...), h.contentType)
	appendHex(b[:sumAt], crc32.Checksum(b[sumAt+9:], castagnoli))
	return append(b, '\n')
}

// appendHex appends n as eight hexadecimal digits.
func appendHex(b []byte, n uint32) []byte {
	return hex.AppendEncode(b, binary.BigEndian.AppendUint32(nil, n))
}

// parseHeader reads a header line without its newline. It accepts exactly what append writes.
func parseHeader(line []byte) (header, error) {
	var h header
	words := strings.SplitN(string(line), " ", 8)
	if len(words) != 8 {
		return header{}, fmt.Errorf("%w: header %.80q", errFormat, line)
	}
	var texts [6]string
	for i, name := range [...]string{"key=", "version=", "length=", "crc32c=", "deleted=", "type="} {
		texts[i] = strings.TrimPrefix(words[i+2], name)
	}
	h.key = texts[0]
	var errs [5]error
	h.meta.Version, errs[0] = version.Parse(texts[1])
	h.meta.Size, errs[1] = strconv.ParseInt(texts[2], 10, 64)
	sum, err := strconv.ParseUint(texts[3], 16, 32)
	h.sum, errs[2] = uint32(sum), err
	h.meta.Deleted, errs[3] = strconv.ParseBool(texts[4])
	h.contentType, errs[4] = strconv.Unquote(texts[5])
	if err := errors.Join(errs[:]...); err != nil {
		return header{}, fmt.Errorf("%w: header %.80q", errFormat, line)
	}
	// Writing it again checks the rest at once: the mark, the names, the sum, one form only.
	if again := h.append(make([]byte, 0, len(line)+1)); !bytes.Equal(again[:len(again)-1], line) {
		return header{}, fmt.Errorf("%w: header checksum or form", errFormat)
	}
	r := replication.Record{Key: h.key, Version: h.meta.Version, Deleted: h.meta.Deleted, ContentType: h.contentType}
	if err := check(r); err != nil || h.meta.Size < 0 || h.meta.Deleted && h.meta.Size > 0 {
		return header{}, fmt.Errorf("%w: header of no record", errFormat)
	}
	return h, nil
}

// parseRecord reads the content of a record file and verifies all of it. The record's value
// is a part of data.
func parseRecord(data []byte) (replication.Record, error) {
	line, value, found := bytes.Cut(data, []byte("\n"))
	if !found {
		return replication.Record{}, fmt.Errorf("%w: no header", errFormat)
	}
	h, err := parseHeader(line)
	if err != nil {
		return replication.Record{}, err
	}
	if int64(len(value)) != h.meta.Size {
		return replication.Record{}, fmt.Errorf("%w: %d bytes of %d", errFormat, len(value), h.meta.Size)
	}
	if got := crc32.Checksum(value, castagnoli); got != h.sum {
		return replication.Record{}, fmt.Errorf("%w: value checksum %08x, want %08x", errFormat, got, h.sum)
	}
	return replication.Record{
		Key: h.key, Version: h.meta.Version, Deleted: h.meta.Deleted,
		ContentType: h.contentType, Value: value[:len(value):len(value)],
	}, nil
}

// seal returns the content of a file of the given kind, one word, that holds payload: a line
// of text with a checksum, then the payload.
func seal(kind string, payload []byte) []byte {
	head := fmt.Appendf(nil, "%s %d\n", kind, len(payload))
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, payload)
	return append(fmt.Appendf(nil, "%s %08x %s", recordMark, sum, head), payload...)
}

// unseal returns the payload, a part of data, of what seal made.
func unseal(kind string, data []byte) ([]byte, error) {
	_, payload, found := bytes.Cut(data, []byte("\n"))
	if !found || !bytes.Equal(seal(kind, payload), data) {
		return nil, fmt.Errorf("%w: %s file is damaged", errFormat, kind)
	}
	return payload, nil
}
