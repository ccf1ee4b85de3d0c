package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A segment is a header and then frames, each starting at a multiple of alignment:
//
//	header  magic (8) number (8) nonce (8) size (8) sum (4), blank to headerSize
//	frame   length of the body (4), where the segment before ended (8), sum of the body (4),
//	        sum of these (4), then the body, blank to the alignment
//	body    entries: length (4), sum (4), payload
//
// Numbers are big-endian. Sums are CRC32C and begin with the header's, which is random, and
// the offset, so that nobody can make a payload that is a frame.
const (
	magic      = "snakesj1"
	headerSize = 64
	headSize   = 20
	entryHead  = 8
	alignment  = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the beginning of a segment.
type header struct {
	number uint64
	nonce  uint64
	size   uint64 // the length of the file when it was made
}

func (h header) encode() []byte {
	b := append(make([]byte, 0, headerSize), magic...)
	for _, field := range [...]uint64{h.number, h.nonce, h.size} {
		b = binary.BigEndian.AppendUint64(b, field)
	}
	b = binary.BigEndian.AppendUint32(b, h.seed())
	return b[:headerSize]
}

// seed is the checksum of h, with which all others in its segment begin.
func (h header) seed() uint32 {
	b := append(make([]byte, 0, 32), magic...)
	for _, field := range [...]uint64{h.number, h.nonce, h.size} {
		b = binary.BigEndian.AppendUint64(b, field)
	}
	return crc32.Checksum(b, castagnoli)
}

func parseHeader(b []byte) (header, bool) {
	if len(b) < headerSize || string(b[:8]) != magic {
		return header{}, false
	}
	h := header{
		number: binary.BigEndian.Uint64(b[8:]),
		nonce:  binary.BigEndian.Uint64(b[16:]),
		size:   binary.BigEndian.Uint64(b[24:]),
	}
	return h, string(h.encode()) == string(b[:headerSize])
}

// sum returns the checksum of data at offset in the segment with the seed.
func sum(seed uint32, offset int64, data []byte) uint32 {
	var place [12]byte
	binary.BigEndian.PutUint32(place[:], seed)
	binary.BigEndian.PutUint64(place[4:], uint64(offset))
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, data)
}

// appendEntry appends an entry to a body.
func appendEntry(body, payload []byte) []byte {
	body = binary.BigEndian.AppendUint32(body, uint32(len(payload)))
	body = binary.BigEndian.AppendUint32(body, entrySum(body[len(body)-4:], payload))
	return append(body, payload...)
}

func entrySum(length, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, payload)
}

// parseEntry returns the payload of the entry at the start of b and what follows it.
func parseEntry(b []byte) (payload, rest []byte, err error) {
	if len(b) < entryHead {
		return nil, nil, fmt.Errorf("%w: entry cut short", ErrDamaged)
	}
	length := binary.BigEndian.Uint32(b)
	if uint64(length) > uint64(len(b)-entryHead) {
		return nil, nil, fmt.Errorf("%w: entry of %d bytes cut short", ErrDamaged, length)
	}
	end := entryHead + int(length)
	payload = b[entryHead:end:end]
	if entrySum(b[:4], payload) != binary.BigEndian.Uint32(b[4:]) {
		return nil, nil, fmt.Errorf("%w: entry checksum", ErrDamaged)
	}
	return payload, b[end:], nil
}

// seal fills in the head of frame, which has room for it before the body, for its place, and
// pads it.
func seal(frame []byte, seed uint32, offset, before int64) []byte {
	body := frame[headSize:]
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	binary.BigEndian.PutUint64(frame[4:], uint64(before))
	binary.BigEndian.PutUint32(frame[12:], sum(seed, offset, body))
	binary.BigEndian.PutUint32(frame[16:], sum(seed, offset, frame[:16]))
	return append(frame, make([]byte, align(len(frame))-len(frame))...)
}

func align(n int) int { return (n + alignment - 1) / alignment * alignment }

// frame is a whole frame in a segment.
type frame struct {
	offset int64
	before int64 // where the segment before ended, if this is the first of its segment
	body   []byte
	end    int64
}

// parseFrame reads the frame at offset of a segment.
func parseFrame(segment []byte, seed uint32, offset int64) (frame, bool) {
	if offset > int64(len(segment))-headSize {
		return frame{}, false
	}
	head := segment[offset:][:headSize]
	length := int64(binary.BigEndian.Uint32(head))
	if length == 0 || length > int64(len(segment))-offset-headSize ||
		sum(seed, offset, head[:16]) != binary.BigEndian.Uint32(head[16:]) {
		return frame{}, false
	}
	body := segment[offset+headSize:][:length]
	if sum(seed, offset, body) != binary.BigEndian.Uint32(head[12:]) {
		return frame{}, false
	}
	f := frame{offset: offset, body: body, end: int64(align(int(offset + headSize + length)))}
	f.before = int64(binary.BigEndian.Uint64(head[4:]))
	return f, true
}

// nextFrame returns the first whole frame at offset or behind it.
func nextFrame(segment []byte, seed uint32, offset int64) (frame, bool) {
	for ; offset <= int64(len(segment))-headSize; offset += alignment {
		if f, ok := parseFrame(segment, seed, offset); ok {
			return f, true
		}
	}
	return frame{}, false
}
