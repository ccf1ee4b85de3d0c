package replication

import (
	"errors"
	"fmt"

	"github.com/protocol7/snakes/replication/version"
)

// MaxKeyBytes is the length of the longest key.
const MaxKeyBytes = 255

// Record is what a node stores under a key: a value, or a tombstone that says it was deleted.
// The bytes of Value belong to whoever was given the record and must not be changed.
type Record struct {
	Key     string
	Version version.Version
	// Deleted makes the record a tombstone: ContentType and Value are empty.
	Deleted     bool
	ContentType string
	Value       []byte
}

// Meta is what is known of a record without reading its value.
type Meta struct {
	Version version.Version
	Deleted bool
	// Size is the length of the value in bytes, 0 for a tombstone.
	Size int64
}

// Meta returns the meta data of r.
func (r Record) Meta() Meta {
	return Meta{Version: r.Version, Deleted: r.Deleted, Size: int64(len(r.Value))}
}

// ValidKey returns nil if key is 1 to MaxKeyBytes ASCII letters and digits, else an error that
// wraps ErrBadKey and says what is wrong.
func ValidKey(key string) error {
	if len(key) == 0 || len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: %d characters, want 1 to %d", ErrBadKey, len(key), MaxKeyBytes)
	}
	for _, c := range []byte(key) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9') {
			return fmt.Errorf("%w: %q holds other characters than ASCII letters and digits", ErrBadKey, key)
		}
	}
	return nil
}

var (
	// ErrBadKey is wrapped by ValidKey and returned by whatever takes a key.
	ErrBadKey = errors.New("bad key")
	// ErrNotFound is returned by reads of a key that was never written or is deleted.
	ErrNotFound = errors.New("not found")
	// ErrDamaged is returned by a Store for a record that it holds but cannot read whole.
	// Such a record is unknown, never absent.
	ErrDamaged = errors.New("record damaged")
	// ErrReadOnly is returned by writes to a Store that has seen its disk fail.
	ErrReadOnly = errors.New("store is read-only until restart")
	// ErrDiskFull is returned by writes for which the disk has no room. Nothing was changed.
	ErrDiskFull = errors.New("disk full")
)
