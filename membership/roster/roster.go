package roster

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// Roster is the set of nodes that should exist. The zero Roster belongs to no cluster. A
// Roster is immutable: its slices are shared and must not be changed.
type Roster struct {
	// Cluster is the id that the cluster got at its founding, 32 hexadecimal digits.
	Cluster string `json:"cluster"`
	// Added and Removed are node ids, ascending. Both sets only grow.
	Added   []string `json:"added"`
	Removed []string `json:"removed,omitempty"`
}

// Change is one step from a roster to the next: Add joins, Remove goes, both together are a
// replacement. Empty means nobody. Remove may be a node that was never added: N stays, and that
// node can never join.
type Change struct {
	Add    string `json:"add,omitempty"`
	Remove string `json:"remove,omitempty"`
}

// ErrBadChange is returned by With for a change that the roster cannot take: adding somebody
// who is in or was removed, removing somebody for the second time, removing the last member, or
// no change at all.
var ErrBadChange = errors.New("roster cannot take this change")

// Found returns the roster of a new cluster, with a random id and one member.
func Found(member string) Roster {
	id := make([]byte, 16)
	rand.Read(id) // never fails: crypto/rand ends the program if the system has no randomness
	return Roster{Cluster: hex.EncodeToString(id), Added: []string{member}}
}

// IsZero reports whether r belongs to no cluster.
func (r Roster) IsZero() bool { return r.Cluster == "" }

// Members returns the ids that count for N, ascending: added and not removed.
func (r Roster) Members() []string {
	members := make([]string, 0, len(r.Added))
	for _, id := range r.Added {
		if !r.HasRemoved(id) {
			members = append(members, id)
		}
	}
	return members
}

// Has reports whether id counts for N.
func (r Roster) Has(id string) bool { return contains(r.Added, id) && !contains(r.Removed, id) }

// HasRemoved reports whether id has left or was forgotten, for ever.
func (r Roster) HasRemoved(id string) bool { return contains(r.Removed, id) }

// strangers returns those of ids that r has neither added nor removed.
func (r Roster) strangers(ids []string) []string {
	var strangers []string
	for _, id := range ids {
		if !contains(r.Added, id) && !contains(r.Removed, id) {
			strangers = append(strangers, id)
		}
	}
	return strangers
}

// Contains reports whether all that is in s is in r.
func (r Roster) Contains(s Roster) bool {
	return r.Cluster == s.Cluster && r.union(s).size() == r.size()
}

// Equal reports whether r and s are the same.
func (r Roster) Equal(s Roster) bool {
	return r.Cluster == s.Cluster && slices.Equal(r.Added, s.Added) && slices.Equal(r.Removed, s.Removed)
}

// Hash returns 16 hexadecimal digits that are the same for equal rosters only.
func (r Roster) Hash() string {
	h := sha256.New()
	fmt.Fprint(h, r.Cluster, len(r.Added), r.Added, r.Removed)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// With returns r after c.
func (r Roster) With(c Change) (Roster, error) {
	switch {
	case c == Change{}:
		return Roster{}, fmt.Errorf("%w: nothing to change", ErrBadChange)
	case r.IsZero():
		return Roster{}, fmt.Errorf("%w: it belongs to no cluster", ErrBadChange)
	case c.Add != "" && !isID(c.Add):
		return Roster{}, fmt.Errorf("%w: %.40q is no node id", ErrBadChange, c.Add)
	case c.Add != "" && (contains(r.Added, c.Add) || contains(r.Removed, c.Add)):
		return Roster{}, fmt.Errorf("%w: %s was added before", ErrBadChange, c.Add)
	case c.Remove != "" && (!isID(c.Remove) || c.Remove == c.Add || r.HasRemoved(c.Remove)):
		return Roster{}, fmt.Errorf("%w: %.40q is no node id, or was removed before", ErrBadChange, c.Remove)
	}
	step := Roster{Cluster: r.Cluster}
	if c.Add != "" {
		step.Added = []string{c.Add}
	}
	if c.Remove != "" {
		step.Removed = []string{c.Remove}
	}
	next := r.union(step)
	if len(next.Members()) == 0 {
		return Roster{}, fmt.Errorf("%w: nobody would be left", ErrBadChange)
	}
	return next, nil
}

// changeTo returns the change that leads from r to next, or an error if that is not one step.
func (r Roster) changeTo(next Roster) (Change, error) {
	var c Change
	for _, id := range next.Added {
		if !contains(r.Added, id) {
			c.Add = id
		}
	}
	for _, id := range next.Removed {
		if !contains(r.Removed, id) {
			c.Remove = id
		}
	}
	if step, err := r.With(c); err != nil {
		return Change{}, err
	} else if !step.Equal(next) {
		return Change{}, fmt.Errorf("%w: more than one step", ErrBadChange)
	}
	return c, nil
}

func (r Roster) union(s Roster) Roster {
	return Roster{Cluster: r.Cluster, Added: merge(r.Added, s.Added), Removed: merge(r.Removed, s.Removed)}
}

func (r Roster) size() int { return len(r.Added) + len(r.Removed) }

func (r Roster) validate() error {
	if !isID(r.Cluster) {
		return fmt.Errorf("cluster id %.40q is not 32 hexadecimal digits", r.Cluster)
	}
	return errors.Join(validateIDs(r.Added), validateIDs(r.Removed))
}

func validateIDs(ids []string) error {
	for i, id := range ids {
		if !isID(id) || i > 0 && id <= ids[i-1] {
			return fmt.Errorf("node id %.40q is malformed or out of order", id)
		}
	}
	return nil
}

func isID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16 && hex.EncodeToString(b) == s
}

func contains(ids []string, id string) bool {
	_, found := slices.BinarySearch(ids, id)
	return found
}

func merge(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}
