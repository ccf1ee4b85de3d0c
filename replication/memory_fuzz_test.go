package replication

import (
	"bytes"
	"testing"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// FuzzDecodeMemory reads anything as what a node saved of its peers: what is accepted is written and read again as the
// same.
func FuzzDecodeMemory(f *testing.F) {
	var told, pulled seen.Set
	told.Add(version.Dot{Origin: 1, Counter: 2})
	pulled.Add(version.Dot{Origin: 3, Counter: 1})
	f.Add(encodeMemory(nil))
	f.Add(encodeMemory(map[string]*remembered{"b": {life: 7, told: told, pulled: pulled}, "a": {}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		peers, err := decodeMemory(b)
		if err != nil {
			return
		}
		written := encodeMemory(peers)
		again, err := decodeMemory(written)
		if err != nil {
			t.Fatalf("written again it is refused: %v", err)
		}
		if got := encodeMemory(again); !bytes.Equal(got, written) {
			t.Errorf("written twice: got %x, want %x", got, written)
		}
	})
}
