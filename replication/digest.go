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

// DigestBuckets is how many parts a digest has, so that two nodes whose digests differ need not
// compare all of their keys.
const DigestBuckets = 1 << bucketBits

const bucketBits = 12

// BucketOf returns the part of the digest that key belongs to, from 0 to DigestBuckets-1: the
// first bits of the SHA-256 of the key, on every node the same.
func BucketOf(key string) int {
	hash := sha256.Sum256([]byte(key))
	return int(binary.BigEndian.Uint16(hash[:]) >> (16 - bucketBits))
}

// Held is what one key holds.
type Held struct {
	Key     string
	Version version.Version
	// Deleted: the record is a tombstone.
	Deleted bool
}
