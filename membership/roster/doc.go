// Package roster agrees on who should be in the cluster.
//
// A [Roster] is the set of nodes that count for N: the number that quorums are computed
// from. It is two sets of node ids that only grow, added and removed; removed wins for ever.
// A learner is a node in neither set that is known durably, since it may have been given
// records, until a change adds or removes it. That needs no agreement: whoever has to do with a
// node enrolls it ([Ledger.Enroll]), and ledgers unite what they know. A [Ledger] is one node's durable copy of the roster in force and its part in changing it.
// The package knows no sockets: its owner carries [Message] values to other ledgers.
//
// # How a change is agreed
//
// A change adds one node, removes one, which may be a learner, or replaces one by another, and
// it is made to one roster, its base. Which change follows a base is decided once, by Paxos
// for a single value (Lamport, "Paxos Made Simple", 2001) among the members of that base: a proposer collects
// promises of a majority, proposes the value that was accepted under the highest ballot or
// else its own, and when a majority of the base has durably accepted it, the new roster is in
// force and spreads by gossip and with every answer between nodes. So the rosters of a
// cluster form one chain, each a superset of the one before, and a minority can change
// nothing. There is no leader and no log: each base is an instance of its own.
//
// # Why quorums stay safe while it changes
//
// A node that has accepted a change cannot know whether it came into force, so it counts a
// quorum only if it is one in the base and in the proposed roster ([Ledger.Rosters]). It says
// what it accepted in every answer; whoever hears it does likewise. Any majority of the old
// roster holds an acceptor, so nobody can use the old one alone once the new one is in force.
// A change moves N by at most one, so majorities of neighbouring rosters overlap; only a
// replacement's need not, which is why it is proposed for a member that is gone.
//
// # Invariants
//
//   - What a ledger promised or accepted is durable before anybody hears of it.
//   - Whoever is in a roster that was accepted to follow is a learner or in the one in force.
//   - A roster in force is only replaced by one that contains it (within one cluster id).
//   - [Ledger.Force] breaks the chain, on an operator's word, when no majority is left to
//     ask. Rosters then merge by union.
package roster
