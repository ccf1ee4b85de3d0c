package replication

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/protocol7/snakes/replication/version"
)

// DigestOf returns 64 bits that key and version share with no others, but by chance. The XOR of
// them over its live records is the digest of a store: order plays no part, and what one
// record adds is taken out again by adding it once more.
func DigestOf(key string, v version.Version) uint64 {
	b := make([]byte, 0, version.Size+MaxKeyBytes)
	b, _ = v.AppendBinary(b) // the error is always nil; the fixed size comes first, so no two records share a form
	hash := sha256.Sum256(append(b, key...))
	return binary.BigEndian.Uint64(hash[:])
}
