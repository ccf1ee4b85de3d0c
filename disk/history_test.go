package disk

import (
	"bytes"
	"testing"

	"github.com/protocol7/snakes/replication/seen"
)

func FuzzDecodeHistory(f *testing.F) {
	for _, h := range []history{
		{seen: new(seen.Set)},
		{seen: seen.Of(at(1).Dot, at(9).Dot), own: map[uint64]bool{3: true, 7: true}, floor: at(9).Timestamp},
	} {
		f.Add(h.encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := decodeHistory(data)
		if err == nil && !bytes.Equal(h.encode(), data) {
			t.Fatalf("accepted %x, which is written as %x", data, h.encode())
		}
	})
}
