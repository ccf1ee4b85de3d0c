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
//   - member: a node in the roster in force; it counts for N. learner: a node that gossips and
//     goes by the same roster, but is not in it yet. A cluster has a name, chosen by people, and
//     an id, drawn at its founding; nodes of another id are kept out even if the name is equal.
//   - live: requests may be sent to it. Gossip must hold it for alive, and the last request must
//     have got an answer: [Membership.Failed] and [Membership.Answered] are told by those who
//     send requests. memberlist tells nobody whom it suspects, so the state suspect is ours.
//   - seeker: a node in no cluster, or alone in its own and told to join another.
//
// # Invariants
//
//   - N changes only by agreement of a majority of the members before, see package roster. A
//     failure, a stop, or a node that is not heard of changes no roster.
//   - [Membership.Snapshot] is immutable, and a change that a call has made is in it when the
//     call returns.
//   - memberlist's callbacks take notes and return: it calls them with its own lock held. No
//     method of memberlist is called with ours held.
//   - What a node says of itself carries the time at which it said so, and the later counts,
//     whether it came by gossip, in a message or from disk.
//
// # Goroutines
//
// Start begins three, and Stop ends and waits for them: tend finds this node a cluster and
// promotes learners, whenever something changed; publish lets gossip carry what this node says
// of itself; seek dials whoever should be here and is not. memberlist has its own.
//
// # When others misbehave
//
// A member that gossips but does not answer is suspect; one that does neither is failed, found
// out by memberlist within some seconds. Both still count for N. memberlist forgets a dead node
// after half a minute and never dials it again; seek does, for ever. A node whose id was removed
// is refused and told so ([ErrRemoved]), a second process with the id of a live one too
// ([ErrTwin]); both come out of [Membership.Fatal]. Gossip of other clusters is dropped, nonsense
// is logged and dropped. If the disk refuses a change of the roster, this node does not accept
// it.
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
