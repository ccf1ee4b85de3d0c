package replication

import (
	"slices"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// stability is the rule by which a tombstone may go: a pure function of the nodes known, of what
// was pulled from each and of what was seen here.
//
// A tombstone is stable if its dot is in what this node has pulled from each node that may hold
// a record, live or not: the other members of every roster that may be in force, and learners.
// That a node has seen it is not enough. A pull tells more: whatever older writes of the key the
// node knew of by then this one has seen too, and whom the node had given records to this one
// knows. So nobody is left who could bring such a write later, but for those under way already.
type stability struct {
	self   string
	mine   *seen.Set
	others []pulledFrom // ascending by id
	// past reports whether all that this node will ever stamp from now on comes after t. Without
	// its tombstone a key could otherwise be put under a version below that of the tombstone,
	// which others still have.
	past func(t version.Timestamp) bool
	// joined: this node is in a cluster. Before that it does not know whom it might know.
	joined bool
}

// pulledFrom is what was pulled from one node.
type pulledFrom struct {
	id     string
	pulled *seen.Set
}

func stabilityOf(view *View, mine *seen.Set, pulled func(id string) *seen.Set, past func(version.Timestamp) bool) stability {
	s := stability{self: view.Self, mine: mine, past: past, joined: len(view.Rosters) > 0}
	// Members should hold all of the rosters. Whoever is only in one of the two must count.
	ids := slices.Concat(view.Rosters...)
	for _, m := range view.Members {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if id != view.Self {
			s.others = append(s.others, pulledFrom{id, pulled(id)})
		}
	}
	return s
}

// has reports whether a tombstone at v is stable.
func (s stability) has(v version.Version) bool {
	for _, p := range s.others {
		if !p.pulled.Has(v.Dot) {
			return false
		}
	}
	return s.hasHere(v)
}

// hasHere reports whether nothing of this node itself keeps a tombstone at v from being stable.
func (s stability) hasHere(v version.Version) bool {
	return s.joined && s.mine.Has(v.Dot) && s.past(v.Timestamp)
}

// waitsFor returns the ids of the nodes that keep a tombstone at v from being stable, this one
// included; none if it is.
func (s stability) waitsFor(v version.Version) (ids []string) {
	for _, p := range s.others {
		if !p.pulled.Has(v.Dot) {
			ids = append(ids, p.id)
		}
	}
	if !s.hasHere(v) {
		ids = append(ids, s.self)
	}
	return ids
}
