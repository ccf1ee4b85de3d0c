package membership

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/membership/roster"
)

// State is what the cluster makes of a member, in the words that users see.
type State string

// The states of a member. A learner is Joining or Syncing; all others count for N.
const (
	Joining  State = "joining"  // goes by no roster of this cluster yet
	Syncing  State = "syncing"  // catches up; does not count yet
	Alive    State = "alive"    // gossips and answers
	Suspect  State = "suspect"  // gossips, but does not answer
	Failed   State = "failed"   // neither; expected back
	Stopped  State = "stopped"  // ended in good order; expected back
	Draining State = "draining" // alive; drained, stopping or leaving: choose others
)

// Member is what this node knows of one node.
type Member struct {
	// ID is the node id, 32 lower-case hexadecimal digits; Name is for people, not unique.
	ID, Name string
	// Address is HOST:PORT, where the member is curled, joined and talked to.
	Address string
	// Version is the release it runs.
	Version string
	State   State
	// Since is when it entered State, as seen here.
	Since time.Time
	// Enrolled: it is known durably, as a member or learner. Others must be given no records: if
	// this node forgot that they exist, a key deleted meanwhile could come back from there.
	Enrolled bool
	// Counted: it is in the roster in force and counts for N.
	Counted bool
	// Live: requests may be sent to it. True for self, else only for who is enrolled.
	Live bool
	// Synced: it says that it has all that it should have.
	Synced bool
}

// Snapshot is the cluster as this node sees it at one moment. It is immutable and shared.
//
// A node of this cluster is in it from when it is enrolled until it is removed, whether it is
// heard or not: a learner that is away is Syncing and not Live. A node that has no cluster yet is
// in it, Joining, only while it gossips, and is neither Enrolled nor Live.
type Snapshot struct {
	// Cluster is the cluster's name, ClusterID the random id given at its founding, empty
	// while this node is joining.
	Cluster, ClusterID string
	// Self is this node's id.
	Self string
	// Members are all nodes known, self included, ascending by id.
	Members []Member
	// Rosters are the roster in force and the ones proposed against it, each a list of node
	// ids, ascending; empty while this node is joining.
	Rosters [][]string
}

// Joined reports whether this node belongs to a cluster, be it of one.
func (s *Snapshot) Joined() bool { return len(s.Rosters) > 0 }

// Known returns N, the number of members that should exist: 1 while joining.
func (s *Snapshot) Known() int {
	if !s.Joined() {
		return 1
	}
	return len(s.Rosters[0])
}

// Member returns the member with the given id.
func (s *Snapshot) Member(id string) (Member, bool) {
	i, found := slices.BinarySearchFunc(s.Members, id, func(m Member, id string) int { return strings.Compare(m.ID, id) })
	if !found {
		return Member{}, false
	}
	return s.Members[i], true
}

var (
	// ErrUnknownMember is returned by Forget for a name or id that nobody has.
	ErrUnknownMember = errors.New("no such member")
	// ErrMemberAlive is returned by Forget for a member that is alive.
	ErrMemberAlive = errors.New("member is alive")
	// ErrNoMajority is returned by changes of the roster that a majority did not accept in
	// time. The change may still take effect later.
	ErrNoMajority = errors.New("no majority of the members accepted the change")
	// ErrMinority comes with ErrNoMajority if too few members are live to ask at all. Nothing was
	// changed.
	ErrMinority = errors.New("too few members are live")
	// ErrLastMember is returned by Leave of the only member.
	ErrLastMember = errors.New("the last member cannot leave")
	// ErrNotMember is returned by Leave of a node that does not count.
	ErrNotMember = errors.New("node is not a member yet")
	// ErrRemoved is returned to, and about, a node that has left or was forgotten.
	ErrRemoved = errors.New("node was removed from the cluster")
	// ErrOtherCluster is returned to, and about, a node of another cluster.
	ErrOtherCluster = errors.New("node belongs to another cluster")
	// ErrOtherName is returned by New for data of a cluster with another name.
	ErrOtherName = errors.New("data belongs to a cluster of another name")
	// ErrNotEnrolled is returned by Merge if the disk did not take new learners. All else that was
	// told of the roster was taken in.
	ErrNotEnrolled = roster.ErrNotEnrolled
	// ErrNotSynced is returned by changes of the roster on, and by, a member that is not synced: it
	// may have forgotten what it agreed to before.
	ErrNotSynced = errors.New("member is not synced")
	// ErrBadMessage is wrapped by the error for a message between members that makes no sense.
	ErrBadMessage = errors.New("message between members makes no sense")
	// ErrTwin is returned to a process whose node id a live process at another address has.
	ErrTwin = errors.New("another live process has the same node id")
)

// AmbiguousError is returned by Forget for a name that several members have.
type AmbiguousError struct {
	Name string
	IDs  []string
}

// Error implements error.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%d members have the name %s: %s", len(e.IDs), e.Name, strings.Join(e.IDs, ", "))
}
