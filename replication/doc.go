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
//   - stretch: what one replica knows of some keys in their order; a page of a list is merged from
//     several. See [Coordinator.List].
//   - learner: a member outside the rosters. It receives writes; its answers count for nothing.
//   - superseded: the answer of a replica that has something newer than what it is given.
//   - straggler: a call that goes on after the reply it was made for.
//   - seen set: the dots of the writes that a node has applied or discarded. See package seen.
//   - pull: one node getting from another, page by page, the records that it lacks, and then
//     the other's seen set. It is incomplete if a record could not be read there.
//   - tombstone: the record of a deletion. It is stable at a node that has pulled it from all
//     others that may hold a record, and collected, which is to say dropped there, if it has
//     been so for CollectorConfig.MinAge.
//   - digest: 64 bits of all live keys and their versions, comparable between nodes.
//   - watch: what changes on this node, told to somebody who keeps no records; its marker is the
//     seen set of what was told, valid on any node. See [Watch].
//   - backup: all records that a node has once it has what the others had, and its seen set of before.
//     To restore one is to pull from what has that and no more. See [Coordinator.Backup] and
//     [Coordinator.Restore].
//   - collected set: the dots of which this node may have forgotten tombstones; see
//     [Memory.Collected].
//   - synced, blank: a node is synced once it has all that it should have, and counts for
//     reads from then on. That it was so as a member is marked durably; a member without the
//     mark, since its data is not what it was or never was any, is blank and catches up first.
//   - gone back: a node is so if its data is an older copy of what it once was.
//
// # Invariants
//
//   - I1: a replica's version of a key never goes down. Store keeps it; the coordinator takes a
//     replica that breaks it for one that answers nonsense.
//   - I2: the order in which writes arrive is invisible. The coordinator alone makes versions,
//     and the larger one wins everywhere.
//   - I3: a write acknowledged by w replicas survives while fewer than w of them lose their
//     disks. An acknowledgement is an Outcome of Store.Apply, given when it is durable.
//   - I4: after faults end and writes stop, all replicas are equal. Every write goes to every
//     live member, not just to as many as are waited for, and what got lost is pulled. Whoever
//     has seen a dot holds its record or a newer one, at any moment, or that was a tombstone
//     which was collected: a pull's seen set is united only after everything that was offered
//     with it is durable. What breaks that all the same, on a disk, a [Mender] finds by digest.
//   - I5: a deletion lasts. It is a record like any other, a tombstone, and a [Collector] drops it
//     only when nothing older of its key is left anywhere, nor under way.
//   - I9, that nothing torn is shown, is kept by the Store.
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
// as down: at once if it refused, after Config.Silence if it hangs. A level that cannot be met
// without silent peers waits for them until Config.Timeout, and ends at once when it cannot be
// met any more. A peer that is only slow is waited for by no read that can do without it: after
// 50 ms another one is asked as well, and the slow one last for a second.
//
// A peer that was cut off, or this node, is noticed at the next exchange and caught up with at
// once; a single lost write after SyncConfig.Grace. A pull that ends early costs nothing that
// was applied. Peers that fail, or that hold a record they cannot read, are asked again ever
// more rarely, up to half a minute apart, while the others are pulled from as before.
//
// The own disk is one replica's disk: full, failing or slow, it costs one acknowledgement.
// But a Store that is latched read-only coordinates no writes at all. A damaged record is
// unknown, never absent: its replica does not count for the read, and is given the record that
// the others agree on.
//
// A node that starts from an old copy of its data could bring back what was deleted since, and
// counts for writes that it does not have any more. So each process compares with every live
// member, before it is synced and before it pulls from that member, what the member remembers of
// it ([Memory]); [MonitorConfig.GoneBack] is told, and the node must give that data up. It then
// begins anew with none, as a blank node.
//
// Nodes that have seen the same but have another digest compare versions by key. Each fetches what
// is damaged or older on its own disk. What is missing without a trace is told and not copied: it
// may have been deleted.
//
// A node that is away keeps the others from collecting what was deleted since, until it is back or
// forgotten: [CollectorStats] says who blocks how many.
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
//   - A member that holds a record it cannot read, of which nobody else has a copy, lets no
//     blank node become synced: what the record was is unknown, and so is what is missing.
//   - A node whose clock is behind by more than version.MaxAhead may stamp a write below a tombstone
//     that it has collected already. The write is lost where the tombstone still is, and then, by
//     comparing digests, everywhere; if no node has it any more, the write stays where it was
//     taken, and the digests differ until the key is written again.
//   - To restore a backup of another cluster, or a write that a backup alone has, may bring back a key
//     that was deleted here after it was written there, if nobody remembers the delete any more: no
//     set tells of it.
//   - If all members of a roster are blank, or too many are gone for good, a blank one becomes
//     synced only by [Syncer.AcceptLoss]: what only the others had is given up.
//   - A member that finds no other to compare its data with is not synced: it answers no pull and
//     no look-up, and reads at level one alone, for its own clients. Old copies that find only each
//     other rely on each other until somebody comes who remembers more; what a node that
//     was new meanwhile pulled from them stays there.
//
// # Example
//
//	c, err := replication.New(replication.Config{
//		Store: store, Members: members, Peers: peers, Clock: clock, Origin: origin, Memory: memory,
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
//
// What keeps the nodes equal, beside it:
//
//	var monitor *replication.Monitor
//	syncer, err := replication.NewSyncer(replication.SyncConfig{
//		Replica: c.Replica(), Members: members, Peers: peers, Memory: memory, Busy: c.Busy,
//		Checked: func() bool { return monitor.Checked() }, SetSynced: tellTheOthers,
//	})
//	mender, err := replication.NewMender(replication.MenderConfig{
//		Replica: c.Replica(), Members: members, Peers: peers,
//	})
//	monitor, err = replication.NewMonitor(replication.MonitorConfig{
//		Replica: c.Replica(), Members: members, Peers: peers, Memory: memory,
//		Heard: syncer.Heard, Compared: mender.Compared, GoneBack: setAsideAndBeginAnew,
//	})
//	collector, err := replication.NewCollector(replication.CollectorConfig{
//		Replica: c.Replica(), Members: members, Memory: memory, Synced: syncer.Synced,
//	})
//	for _, run := range []func(context.Context){syncer.Run, mender.Run, monitor.Run, collector.Run, memory.Run} {
//		running.Go(func() { run(ctx) })
//	}
package replication
