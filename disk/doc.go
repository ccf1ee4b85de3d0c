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
//	journal/<16 hex>    what was written since it was brought to rest; see package journal
//	index-a, index-b    the last two saves of the index and of which writes this node has seen
//	begin               after data was set aside: what the clock of this node must start above
//	state/roster        named state
//	aside/<time>-<why>/ what was set aside, laid out like this, and "settled" once dealt with
//	setting-aside       there while that is being done
//	reserve             room that a full disk still has for small things
//	tmp/                files being written; emptied at Open
//
// Directories have mode 0700, files 0600. The names of key files are distinct where upper and
// lower case are the same.
//
// # The way of a write
//
//	Apply ──> journal, one sync for all who wait ──> index, backlog: told, acknowledged
//	                                                     │ at once when idle, behind the writers under load
//	                                                     v
//	                                     its file, in place, not synced
//	                                                     │ checkpoint: every 128 MiB of journal, and Close
//	                                                     v
//	          all files synced, index saved and synced, old segments removed
//
// Whatever lies in the journal and is not known to be synced in its file is written to it again
// by the next process. Until a record is in its file, Get has it from memory, or from the
// journal when there is much of that. What was filed, or Get has read from a file, it keeps in a cache.
//
// # Terms
//
//   - backlog: the records that are in the journal and not in their files.
//   - filing: writing the backlog to files.
//   - cache: values that were filed or read from files, 64 MiB of them.
//   - checkpoint: taking what old segments tell to where it rests, and removing them.
//   - save: the index and the seen set as of the end of a segment, in one file.
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
//     kill at any instruction and a power cut. This holds on Linux (package test/power tries it on ext4), on file systems whose sync
//     tells the truth; macOS should be as good, on Windows the names in a directory cannot be
//     synced.
//   - A file of a key that is half written has its record in a segment that is kept, and is
//     read by nobody but people. Each is written within a second when there is little to do.
//   - Segments are removed oldest first, when all that they tell is synced elsewhere, and a save
//     that covers them is; and the one before that is still good, with the segments it lacks.
//   - The version of a key never goes down (I1), as far as it is known: only when a damaged
//     file does not even yield its header line, any record is taken in its place. A dropped
//     tombstone is not known any more; after a power cut it may be back, but nothing older.
//   - A dot is durable only with its record or after it, or a newer one of the same key.
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
//   - Flipped bits, cut or missing files: each record has one checksum for the header line and
//     one for the value, verified by Get. A file that does not hold what it should is written
//     again from the journal, if that still has the record. Else the key is damaged, which is
//     unknown and never absent, until its record is applied again or a newer one is. Nothing is
//     removed or renamed. The digest leaves it out, and to nodes that may lack it Lacking says
//     that its answer is incomplete. Open looks at no files while there is a save; what was
//     damaged meanwhile is noticed by Get, unless that still has the value in memory. A damaged tombstone can be dropped like any other.
//   - A save that is damaged, or was being written: the other one is used, and more of the
//     journal. Without any, Open reads the headers of all files; the journal has the seen set.
//   - Damaged journal: what is lost is logged. Of what comes after, records are taken, and no
//     dots without records, as these may rely on what is lost. So the seen set may be less than
//     the node told others before, as if an old copy had been restored. Who compares the two
//     finds out and has the node begin anew, with its data set aside. Damage to the last thing
//     that was written before the process ended cannot be told from a write that was not finished.
//   - Full disk: values that cannot be written to their files stay in the journal, and further
//     ones are refused with ErrDiskFull, nothing changed, until all have found room. Deletes, seen
//     dots and united sets go on as long as there is room in the journal, which is a segment
//     or nearly two (4 MiB each); state, saves and files of tombstones may use the reserve. After that,
//     Open, Close, reads and Begin still go on. Data can only be set aside when all of it has
//     room in files, and the first Open after that needs room for a journal.
//   - Any other error of a write, rename or sync, and every error of a sync: latched. Reads go
//     on. A sync is never tried again, since the second one may succeed without having
//     written anything. Being out of file handles is not an error of the disk.
//   - Writes that failed because of that have an unknown outcome: after a restart they may be
//     there. Until then nothing tells them.
//
// [Store.Stats] tells all that in numbers, and Config.Synced how long writers wait for the disk.
//
// [Store] has two goroutines, one that files records and makes checkpoints, and one that reads
// all files again and again, slowly: Open starts them, Close and SetAside end them.
package disk
