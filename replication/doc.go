// Package replication decides what a replicated write or read means.
//
// A [Coordinator] serves one client request on behalf of all replicas of the key: it stamps a
// write with a version and answers when enough replicas have it, and it reads from enough
// replicas that the newest write is among their answers. A [Replica] is the other side, what a
// node does when a coordinator asks it. A [Monitor] keeps asking the peers how they are.
//
// The package opens no socket and no file. It declares what it needs: a [Store] keeps records
// durably, [Members] tells who the replicas are, [Peers] carries requests to them. Requests of
// clients, their limits and what errors look like to them are left to the caller.
//
// # Terms
//
//   - version, dot, origin: the place of one write in the order that all nodes agree on, and
//     the write's identity. See package version.
//   - roster, N: the members that should exist, dead ones included, and how many they are.
//   - level, R, W: how many replicas must take part, see [Level].
//   - learner: a member outside the rosters. It receives writes; its answers count for nothing.
//   - superseded: the answer of a replica that has something newer than what it is given.
//   - straggler: a call that goes on after the reply it was made for.
//
// # Invariants
//
//   - I1: a replica's version of a key never goes down. Store keeps it; the coordinator takes a
//     replica that breaks it for one that answers nonsense.
//   - I2: the order in which writes arrive is invisible. The coordinator alone makes versions,
//     and the larger one wins everywhere.
//   - I3: a write acknowledged by w replicas survives while fewer than w of them lose their
//     disks. An acknowledgement is an Outcome of Store.Apply, given when it is durable.
//   - I4, I5 and I9, that replicas end equal, that deletions last and that nothing torn is shown,
//     are kept by catch-up and by the Store. What this package does for them: every write goes
//     to every live member, not just to as many as are waited for; a deletion is a record like
//     any other; a dot is allotted once, before the write is sent anywhere.
//   - I6: a value is one whole Put: it travels in one Record with its version.
//   - I7: two sides of a split never both pass the default level nor quorum. N comes from the
//     roster, never from who is live; a level must be met in every roster that may be in force;
//     and the View is taken anew after each answer.
//   - I8: nothing here changes a roster.
//
// # When things misbehave
//
// A peer that refuses, hangs or answers nonsense costs its own acknowledgement and nothing
// else. It is reported to Members, and for the rest of the request the default level counts it
// as down: at once if it refused, after Config.Silence if it hangs. An explicit level waits for
// a silent peer until Config.Timeout, and ends at once when it cannot be met any more.
//
// The own disk is one replica's disk: full, failing or slow, it costs one acknowledgement.
// But a Store that is latched read-only coordinates no writes at all. A damaged record is
// unknown, never absent: its replica does not count for the read, and is given the record that
// the others agree on.
//
// A clock that is wrong spoils the order of its own node's writes: they win or lose against
// writes that were really later or earlier. It spoils no other node's clock by more than
// version.MaxAhead, and [Monitor.Skew] tells a node that it is the odd one out. A key is never
// stuck in the future: a coordinator stamps above its own record of it, whatever that says.
//
// # Hazards
//
//   - The same value may show under two versions. A write that was superseded at so many
//     replicas that its level cannot be met is stamped anew, once, above what was in the way.
//     Replicas that took it the first time may serve it under the first version until the
//     second arrives; a reader then sees the value, the other writer's value, and the value
//     again. The two writes were concurrent, so every such order is one of theirs.
//   - A write that failed with WrittenUnknown may be seen later, and may outlive a write that
//     was acknowledged before it. It is never undone.
//   - A Get that meets a write under way may return the older value after another Get returned
//     the newer, unless the level of both is quorum or more: only then do they share a replica.
//
// # Example
//
//	c, err := replication.New(replication.Config{
//		Store: store, Members: members, Peers: peers, Clock: clock, Origin: origin,
//	})
//	...
//	receipt, err := c.Put(ctx, "foo", []byte("bar"), "text/plain", replication.LevelQuorum)
//	var missed *replication.QuorumError
//	switch {
//	case errors.As(err, &missed):
//		log.Printf("%d of %d acknowledged, written: %s", missed.Acks, missed.Need, missed.Written)
//	case err == nil:
//		log.Printf("%v is on %d of %d replicas", receipt.Version, receipt.Acks, receipt.N)
//	}
package replication
