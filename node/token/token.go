package token

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/protocol7/snakes/node/secret"
)

// Role is what a client may do. A higher one may do all that a lower one may.
type Role int

// The roles, from the lowest.
const (
	None  Role = iota // nothing that needs a token
	Read              // ask for keys and for what nodes tell of themselves
	Write             // and change keys
	Admin             // and change the cluster
)

// roleNames are the words for roles, by Role.
var roleNames = []string{"nothing", "read", "write", "admin"}

// String returns the word that stands for r in a file.
func (r Role) String() string { return roleNames[r] }

// Limits of a file of tokens.
const (
	// MinBytes is the length in bytes of the shortest token, MaxBytes of the longest.
	MinBytes = 16
	MaxBytes = 1024
	// MaxTokens is how many a file may have: each request is compared with all of them.
	MaxTokens = 100
)

// Set is the tokens of a file. It is immutable.
type Set struct{ tokens []known }

// known is one token, of which only the hash is.
type known struct {
	hash [sha256.Size]byte
	role Role
}

// Load returns the tokens in the file at path, which nobody but its owner may be able to read. Errors hold nothing of
// what is in it.
func Load(path string) (*Set, error) {
	text, err := secret.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	set, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	return set, nil
}

// Parse returns the tokens in text: lines of a role and a token. Empty lines, and those that begin with #, mean nothing.
func Parse(text []byte) (*Set, error) {
	set := new(Set)
	number := 0
	for line := range bytes.Lines(text) {
		number++
		words := bytes.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		role := slices.Index(roleNames, string(words[0]))
		switch {
		case role < int(Read) || len(words) != 2:
			return nil, fmt.Errorf("line %d is not read, write or admin, and a token", number)
		case len(words[1]) < MinBytes || len(words[1]) > MaxBytes:
			return nil, fmt.Errorf("line %d has a token of %d bytes, which is not %d to %d; to draw one: snakes secret", number, len(words[1]), MinBytes, MaxBytes)
		case bytes.ContainsFunc(words[1], func(c rune) bool { return c <= ' ' || c > '~' }):
			return nil, fmt.Errorf("line %d has a token with a byte that is no printable ASCII", number)
		}
		t := known{sha256.Sum256(words[1]), Role(role)}
		if slices.ContainsFunc(set.tokens, func(k known) bool { return k.hash == t.hash }) {
			return nil, fmt.Errorf("line %d has a token that was there before", number)
		}
		set.tokens = append(set.tokens, t)
	}
	switch {
	case len(set.tokens) == 0:
		return nil, errors.New("there is no token in it")
	case len(set.tokens) > MaxTokens:
		return nil, fmt.Errorf("%d tokens are more than %d", len(set.tokens), MaxTokens)
	}
	return set, nil
}

// Role returns what whoever shows this token may do: None if it is no token of s.
func (s *Set) Role(shown string) Role {
	hash := sha256.Sum256([]byte(shown))
	role := 0
	for _, t := range s.tokens { // all of them, whichever it is
		role = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], t.hash[:]), int(t.role), role)
	}
	return Role(role)
}

// String returns how many tokens there are.
func (s *Set) String() string { return fmt.Sprintf("%d tokens", len(s.tokens)) }
