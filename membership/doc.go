// Package membership knows who is in the cluster, and who should be.
//
// It puts hashicorp/memberlist behind a small type and adds what gossip does not know: a
// durable roster of the members that should exist (package roster), learners and how they come
// to count, replacement of members that are gone, founding, and the way back after splits. It
// leaves to others what members are for: it knows neither HTTP nor keys nor quorums. Messages
// to other nodes go through [Link], durable state through [Storage], gossip through package
// transport.
//
// # Terms
//
//   - member: a node in the roster in force; it counts for N. learner: a node that goes by the
//     same roster, but is not in it yet. Both are enrolled: known durably, until they are removed
//     by agreement, which is what [Membership.Forget] and [Membership.Leave] bring about.
//   - A cluster has a name, chosen by people, and an id, drawn at its founding; nodes of another
//     id are kept out even if the name is equal.
//   - live: requests may be sent to it. Gossip must hold it for alive, and the last request must
//     have got an answer: [Membership.Failed] and [Membership.Answered] are told by those who
//     send requests. memberlist tells nobody whom it suspects, so the state suspect is ours.
//   - gone: neither live nor suspect; it is not heard, or said that it stops.
//   - seeker: a node in no cluster, or alone in its own and told to join another.
//   - ghost: a node that is gone while another one stands in its place, left by a machine that
//     was wiped: a learner while a member of its name or address is live, a member while one of
//     its name and address is. So is a learner of which nobody knows more than the id for long.
//
// # Invariants
//
//   - N changes only by agreement of a majority of the members before, see package roster. A
//     failure, a stop, or a node that is not heard of changes no roster.
//   - Only who is enrolled is ever live or served. A node that gossips or asks for something is
//     enrolled first and shown then, and is shown, away or not, until it is removed. What is shown beyond that is seekers, in state
//     joining, while they gossip.
//   - [Membership.Snapshot] is immutable, and a change that a call has made is in it when the
//     call returns.
//   - memberlist's callbacks take notes and return: it calls them with its own lock held. No
//     method of memberlist is called with ours held.
//   - With keys nothing of gossip is sent or taken in the clear. What is not encrypted with a key of
//     this node is as if it had not come.
//   - What a node says of itself carries the time at which it said so, and the later counts,
//     whether it came by gossip, in a message or from disk.
//
// # Goroutines
//
// Start begins three, and Stop ends and waits for them: tend finds this node a cluster, enrolls
// and promotes learners and removes ghosts, whenever something changed; publish lets gossip
// carry what this node says of itself; seek dials whoever should be here and is not. memberlist
// has its own.
//
// What memberlist measures goes to one place of the process, whoever starts it; it is sorted there by
// node, for [Membership.Stats], and what is of none that runs is dropped.
//
// # When others misbehave
//
// A member that gossips but does not answer is suspect; one that does neither is failed, found
// out by memberlist within some seconds. Both still count for N. memberlist forgets a dead node
// after half a minute and never dials it again; seek does, for ever. A node whose id was removed
// is refused and told so ([ErrRemoved]), a second process with the id of a live one too
// ([ErrTwin]); both come out of [Membership.Fatal]. Gossip of other clusters is dropped, nonsense
// is logged and dropped. If the disk refuses a change of the roster, this node does not accept
// it; if it refuses a learner, that one is not shown here.
//
// # Removed, and back
//
// A node that was removed, because it left, was forgotten or was replaced, is refused for ever,
// learners too. It may come back under a new id: if its storage keeps the state members, but not
// the state roster, it looks for those members, besides its seeds, and founds nothing, however
// long they do not answer, also if none were saved: a lost node must not make a cluster of its
// own.
//
// # Example
//
//	m, err := membership.New(membership.Config{ID: id, Name: "a", Cluster: "snakes", ...})
//	...
//	err = m.Start()
//	for _, member := range m.Snapshot().Members {
//		fmt.Println(member.Name, member.State)
//	}
//	m.Stop()
package membership
