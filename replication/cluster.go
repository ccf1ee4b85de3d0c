package replication

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// Members tells who the replicas are at this moment. Safe for concurrent use; View is cheap
// enough to be called for every request and every answer.
type Members interface {
	View() *View

	// Failed reports that a request sent to a node at the given time got no answer: err says why.
	// Answered reports that one did. They are the evidence by which View().Members change from
	// live to not. What was sent before a node came back says nothing of it now.
	Failed(id string, sent time.Time, err error)
	Answered(id string)

	// Enroll makes node id durably known, as a learner unless it is known already, so that it is
	// in View().Members from then on, here and on every node that learns of the roster from this
	// one. The error says that the node was removed from the cluster, or is the disk's. It may
	// wait for the disk.
	Enroll(id string) error
}

// View is who takes part, at one moment. A View is immutable and shared.
type View struct {
	// Self is the id of this node.
	Self string
	// Cluster is the id of the cluster, empty while this node is joining one.
	Cluster string
	// Members are the nodes durably known here, live or not, self included, ascending by id:
	// those of the rosters and learners. No others are given records: else one that nobody
	// remembers could hold a value whose deletion is forgotten.
	Members []Member
	// Rosters are the sets of node ids that must all give a quorum, each ascending: first the
	// roster in force, then those proposed against it whose fate is not known here. While a
	// change of the roster is under way a level counts only if it is met in the old and in the
	// new one, so that no two sides of a split can both pass. Empty: this node has not joined
	// a cluster yet and serves level one alone, from itself.
	Rosters [][]string
}

// Member returns the member with the given id and whether it is known.
func (v *View) Member(id string) (Member, bool) {
	i, known := slices.BinarySearchFunc(v.Members, id, func(m Member, id string) int {
		return strings.Compare(m.ID, id)
	})
	if !known {
		return Member{}, false
	}
	return v.Members[i], true
}

// inForce reports whether a node is in the roster in force.
func (v *View) inForce(id string) bool {
	return len(v.Rosters) > 0 && slices.Contains(v.Rosters[0], id)
}

// Member is one node of a View.
type Member struct {
	// ID is the node id, 32 lower-case hexadecimal digits.
	ID string
	// Name is for people.
	Name string
	// Live: gossip holds the node for alive or suspect, and it answers requests. Self is
	// always live.
	Live bool
	// Synced: the node has all that it should have, so that it counts for reads.
	Synced bool
	// Draining: it is drained, stops or leaves. It takes part in all that it is needed for, and reads ask
	// others first.
	Draining bool
}

// Peers carries requests to other nodes. A call ends when ctx does, at the latest. Calls of Write,
// Lookup and Fetch may have to wait for others to the same node before they leave; an error that
// wraps ErrNotSent says that one did not, and nothing about the node.
//
// Whatever the answering node knows about the roster is part of Members.View by the time a
// call returns, and timestamps in the answer were shown to the local clock. So a coordinator
// that looks at the view after each answer cannot miss that a majority moved on to another
// roster.
//
// An error means that no answer was had or that it made no sense. Safe for concurrent use.
type Peers interface {
	// Write gives records to node id and returns its outcomes, as Store.Apply does there.
	Write(ctx context.Context, id string, records []Record) ([]Outcome, error)
	// Lookup returns the meta data that node id has for key. ErrNotFound and ErrDamaged are
	// those of its store. An error that wraps ErrNotReady: the node is not synced.
	Lookup(ctx context.Context, id, key string) (Meta, error)
	// Fetch returns the record that node id has for key. Errors as for Lookup.
	Fetch(ctx context.Context, id, key string) (Record, error)
	// Silent reports whether node id is to blame for a call that was begun at the given time and has
	// no answer: it has answered none of that kind since, so that the call does not just wait for
	// others that the node does answer. It does not block.
	Silent(id string, since time.Time) bool
	// OpenPull tells node id what this node has seen and returns what is to be pulled from
	// there. mine is not changed. By the time node id looks what there is, it knows all that
	// this node knew of the roster, and knows this node durably. An error that wraps
	// ErrNotReady: the node is not synced.
	OpenPull(ctx context.Context, id string, mine *seen.Set) (Pull, error)
	// NextPage returns the records of a pull from number from on, 0 for the first page, as many
	// as fit into a page.
	// ErrPullGone: the node has restarted or has given the pull up; it must be opened anew.
	NextPage(ctx context.Context, id string, pull, from uint64) (Page, error)
	// Exchange tells node id about this node and returns what it tells.
	Exchange(ctx context.Context, id string, mine Status) (Status, error)
	// Buckets returns the digest of node id in DigestBuckets parts: Store.Buckets.
	Buckets(ctx context.Context, id string) ([]uint64, error)
	// Range returns what node id knows of the keys of span: Store.Range. Errors as for Lookup.
	Range(ctx context.Context, id string, span Span) (Stretch, error)
	// Contents returns what the keys of the given buckets hold on node id: Store.Contents.
	Contents(ctx context.Context, id string, buckets []int) ([]Held, error)
}

// Status is what nodes tell each other about themselves in an exchange.
type Status struct {
	// Origin is the number the node's process drew at its start.
	Origin uint64
	// Clock is the highest timestamp the node issued or observed.
	Clock version.Timestamp
	// Wall is the node's wall clock when it answered or asked.
	Wall time.Time
	// Keys is the number of live keys.
	Keys uint64
	// Tombstones is the number of deleted keys whose tombstones the node still has.
	Tombstones uint64
	// SeenHash is the hash of the node's seen set, Digest the digest of its store soon after:
	// of the same moment if the set did not change meanwhile.
	SeenHash uint64
	Digest   uint64
	// Seen is the node's seen set, which must not be changed, or nil if the other side's hash is
	// the same.
	Seen *seen.Set
	// Pulled and Offered tell how far the pull under way of a node has got that is not synced,
	// in keys; 0 if there is none.
	Pulled, Offered uint64

	// Recall, in a request, asks for Recalled in the answer: all that the asking node ever told
	// the answering one that it has seen. It is not nil then, and must not be changed.
	Recall   bool
	Recalled *seen.Set
	// Life says how often the node has given up its data to begin anew: what it told in an
	// earlier life is void. RecalledLife, with Recalled, is the highest in which the asking node
	// told anything to the answering one.
	Life, RecalledLife uint64
}

// Pull is what one node offers to another that lacks it.
type Pull struct {
	// ID names the pull at the node that offers it, until it has been idle for some time.
	ID uint64
	// Seen is the offering node's seen set when the pull was opened. Once the last page is
	// durable here and no page was incomplete, this node has seen all of it too.
	Seen *seen.Set
	// Collected is the offering node's Memory.Collected when the keys were listed: of these dots
	// the asking node gets no tombstones, so that it cannot tell others of them either. nil: none.
	Collected *seen.Set
	// Keys is how many keys are offered.
	Keys uint64
}

// Page is a part of a pull.
type Page struct {
	// Records are the current records of the next keys, which may be newer than the pull. There
	// may be none if those keys' records could not be read.
	Records []Record
	// Next is the number to ask for next, 0 after the last page.
	Next uint64
	// Incomplete: a record could not be read. What came is good, but the pull's seen set must
	// not be united.
	Incomplete bool
}
