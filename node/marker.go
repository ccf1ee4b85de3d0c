package node

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"net/http"

	"github.com/protocol7/snakes/replication/seen"
)

const (
	headerLastEvent = "Last-Event-Id" // as net/http spells it
	// beginning is the marker of whoever was told nothing.
	beginning = "0"
	// maxMarker is the length of the longest marker that is given to clients, so that it fits into
	// the header in which it comes back.
	maxMarker = maxHeader / 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// markerText returns what was told as text: base64 of a CRC-32C and of the set after it, so that a
// marker which was cut is not taken for another one.
func markerText(told *seen.Set) string {
	if len(told.Origins()) == 0 {
		return beginning
	}
	b, _ := told.AppendBinary(make([]byte, 4)) // the error is always nil
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return base64.RawURLEncoding.EncodeToString(b)
}

// markerIn returns the marker that a client goes on from, nil if it has none.
func markerIn(h http.Header) (*seen.Set, error) {
	text := h.Get(headerLastEvent)
	switch text {
	case "":
		return nil, nil
	case beginning:
		return new(seen.Set), nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil && len(b) > 4 && binary.BigEndian.Uint32(b) == crc32.Checksum(b[4:], castagnoli) {
		if told, rest, err := seen.Decode(b[4:]); err == nil && len(rest) == 0 {
			return told, nil
		}
	}
	return nil, refuse(errBadHeader, "%s %q is no marker of a watch. Send one as it came, 0 to be told the current state first, "+
		"or none to be told what changes from now on.", headerLastEvent, shortened(text))
}
