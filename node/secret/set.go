package secret

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

const (
	// MinBytes is the length in bytes of the shortest secret.
	MinBytes = 16
	// MaxBytes is the length in bytes of the longest secret, MaxSecrets the number of secrets that a file may have.
	MaxBytes   = 1024
	MaxSecrets = 16
	// maxFile is the size in bytes of the largest file worth looking at.
	maxFile = MaxSecrets * (MaxBytes + 64)
	// KeyBytes is the length in bytes of a key for gossip.
	KeyBytes = 32
)

// salt tells these derivations from those of other programs that were given the same secret.
var salt = []byte("snakes 1")

// Set is accepted secrets, of which the first is used. The zero value is none at all. It is immutable, and fmt prints
// how many secrets it has.
type Set struct {
	// secrets returns them. It is a function since fmt looks into everything else, and calls no method of a value that
	// is buried in an unexported field.
	secrets func() []pseudorandom
}

// pseudorandom is what HKDF has extracted from a secret. It is all that is kept of it.
type pseudorandom []byte

// Parse returns the secrets in text, one a line. Blanks around them and empty lines mean nothing; neither do repeated
// lines. The error says, with the number of the line and never with its text, what is wrong with it.
func Parse(text []byte) (Set, error) {
	if len(text) > maxFile {
		return Set{}, fmt.Errorf("more than %d bytes are too many for %d secrets", maxFile, MaxSecrets)
	}
	var secrets []pseudorandom
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if err := check(line); err != nil {
			return Set{}, fmt.Errorf("line %d %w", number, err)
		}
		extracted, err := hkdf.Extract(sha256.New, line, salt)
		if err != nil {
			return Set{}, fmt.Errorf("line %d: %w", number, err)
		}
		if !slices.ContainsFunc(secrets, func(p pseudorandom) bool { return bytes.Equal(p, extracted) }) {
			secrets = append(secrets, extracted)
		}
	}
	switch {
	case len(secrets) == 0:
		return Set{}, errors.New("there is no secret in it")
	case len(secrets) > MaxSecrets:
		return Set{}, fmt.Errorf("%d secrets are more than %d", len(secrets), MaxSecrets)
	}
	return Set{func() []pseudorandom { return secrets }}, nil
}

// check goes on after "line 1" and says why that line is no secret.
func check(line []byte) error {
	switch {
	case line[0] == '#': // it would be a secret that anybody can guess
		return errors.New("looks like a comment; a secret file has none")
	case len(line) < MinBytes:
		return fmt.Errorf("has %d bytes; a secret has at least %d, and is drawn, not made up: snakes secret", len(line), MinBytes)
	case len(line) > MaxBytes:
		return fmt.Errorf("has %d bytes; a secret has at most %d", len(line), MaxBytes)
	}
	for _, c := range line {
		// The same letters must be the same bytes on every machine.
		if c < ' ' || c > '~' {
			return errors.New("has a byte that is no printable ASCII")
		}
	}
	return nil
}

// Generate draws a secret: 32 random bytes in base64url.
func Generate() string {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // it never fails
	return base64.RawURLEncoding.EncodeToString(random)
}

// IsZero reports whether s is no secret at all.
func (s Set) IsZero() bool { return s.secrets == nil }

// Len returns how many secrets there are.
func (s Set) Len() int { return len(s.all()) }

// Equal reports whether s and t are the same secrets in the same order.
func (s Set) Equal(t Set) bool {
	return slices.EqualFunc(s.all(), t.all(), func(a, b pseudorandom) bool { return bytes.Equal(a, b) })
}

// String returns how many secrets there are.
func (s Set) String() string { return fmt.Sprintf("%d secrets", s.Len()) }

// GoString is String, for %#v.
func (s Set) GoString() string { return s.String() }

func (s Set) all() []pseudorandom {
	if s.secrets == nil {
		return nil
	}
	return s.secrets()
}

// GossipKeys returns the keys for the gossip of a cluster, of KeyBytes each, in the order of the secrets. The caller
// owns them.
func (s Set) GossipKeys(cluster string) ([][]byte, error) {
	var keys [][]byte
	for _, secret := range s.all() {
		key, err := secret.expand("gossip", cluster)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// expand returns 32 bytes for a purpose within a cluster. Neither word has a blank.
func (p pseudorandom) expand(purpose, cluster string) ([]byte, error) {
	return hkdf.Expand(sha256.New, p, "snakes 1 "+purpose+" "+cluster, 32)
}
