// Package disk keeps a node's records durably: one file per key, which people can list with ls
// and read with head.
//
// [Store] is the replication.Store of a real node. It knows nothing of quorums, members or
// HTTP, and it compares versions but makes none. On the side it keeps what else a node must
// not forget: its id, which origins it stamped with and how far (see [Store.Begin]), and small
// named pieces of state (see [Store.SaveState]).
//
//	store, err := disk.Open(disk.Config{Dir: "data", Logger: logger})
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	floor, err := store.Begin(origin) // start the clock above floor, then stamp with origin
//
// # Layout
//
//	format              one line, "snakes data format 1"; anything else is refused
//	lock                locked by the process that has the directory; holds its pid
//	node                the node id, 32 hexadecimal digits
//	keys/2c/foo         a record: one header line, then the value as it is
//	seen, seen.log      which writes this node has seen: a snapshot, and a log since then
//	state/roster        named state
//	aside/<time>-<why>/ what was set aside, laid out like this, and "settled" once dealt with
//	setting-aside       there while that is being done
//	reserve             room that a full disk still has for deletes
//	tmp/                files being written; emptied at Open
//
// Directories have mode 0700, files 0600. The names of key files are distinct where upper and
// lower case are the same.
//
// # Terms
//
//   - damaged: a record whose file is there but cannot be read whole, or whose file is gone.
//   - latched: read-only until restart, after the disk failed.
//   - set aside: moved out of the way as a whole, to begin anew, and never deleted; see
//     [Store.SetAside]. A relic is data that was.
//   - dropped: a tombstone that was removed, after all nodes had it; see [Store.Drop].
//   - reserve: see the layout.
//
// # Invariants
//
//   - What Lookup, Get, Scan, Seen or LoadState tells, and what was acknowledged, survives a
//     kill at any instruction and a power cut. This holds on Linux, on file systems whose sync
//     tells the truth; macOS should be as good, on Windows the names in a directory cannot be
//     synced.
//   - A file under its final name is never half written.
//   - The version of a key never goes down (I1), as far as it is known: only when a damaged
//     file does not even yield its header line, any record is taken in its place. A dropped
//     tombstone is not known any more; after a power cut it may be back, but nothing older.
//   - A dot is durable only after its record, or a newer one of the same key, is.
//   - The seen set is exact: it survives restarts, also for dots whose records are overwritten
//     or never were stored because newer ones were there, or that came with another node's set
//     (see [Store.Unite]).
//   - Whatever dot Seen has told, Lacking knows the record of it or a newer one of its key,
//     unless the newest was dropped.
//   - The digest and its buckets are those of the records which Scan yields, at any time.
//   - Data is set aside whole or not at all, whatever crashes: Open finishes what had begun,
//     before anything new is written. Nothing else touches what lies in aside.
//   - Neither dropping nor setting aside lowers the floor of the clock.
//
// # When the disk misbehaves
//
//   - Flipped bits, cut or missing files: each record has one checksum for the header line,
//     verified at Open, and one for the value, verified by Get. The key is then damaged, which
//     is unknown and never absent, until its record is applied again or a newer one is.
//     Nothing is removed or renamed. The digest leaves it out, and to nodes that may lack it
//     Lacking says that its answer is incomplete. A file that is gone is noticed by Get, but
//     leaves no trace for the next Open. A damaged tombstone can be dropped like any other.
//   - Damaged seen snapshot: it is kept as seen.damaged and the set rebuilt from what log and
//     records tell. Nothing that this tells is wrong, but it is less than the node told others
//     before, as if an old copy had been restored. Who compares the two finds out and has the
//     node begin anew, with its data set aside.
//   - Full disk: values are refused with ErrDiskFull and nothing is changed; deletes, seen dots,
//     united sets and state go on from the reserve. The next value that finds room ends it.
//     With the reserve used up, Open, Close, reads and Begin still go on, and so do seen dots
//     as long as the log has room for them. The first Open after data was set aside needs room
//     for a new log.
//   - Any other error of a write, rename or sync, and every error of a sync: latched. Reads go
//     on. A sync is never tried again, since the second one may succeed without having
//     written anything. Being out of file handles is not an error of the disk.
//   - Writes that failed because of that have an unknown outcome: after a restart they may be
//     there. Until then nothing tells them.
//
// [Store] starts no goroutine that outlives a call.
package disk
