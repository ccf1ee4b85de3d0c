// Package power cuts the power of a node's disk and checks what is there when it comes back.
//
// It has a real node with its data on ext4 in a file, which users write to, overwrite, delete from and
// read from at the same time. At some moment the file system is shut down in such a way that nothing
// is left of what was not synced (FS_IOC_SHUTDOWN without writing out its journal). The node is killed, the file
// system mounted again, the node started. What it was asked and what it told is compared with what
// it has then.
//
// What single steps of package disk need each other for is left to the tests there, which try every
// step; this package is there to find out whether disk and kernel understand each other.
//
//	go test ./test/power                            20 rounds; 100 with CI=true in the environment
//	go test ./test/power -run PowerCut -rounds 1000 -seed 7 -v
//
// It needs Linux 5.19, root, loop devices and e2fsprogs, and is skipped where one is missing; with CI=true
// that is a failure. Nothing is left behind, whatever ends it: mounts are in a namespace of the test process,
// and loop devices clear themselves.
//
// # What must hold
//
//   - A write or a delete that was acknowledged before the cut, and a value that was read, is there, or
//     something newer of the same key that somebody asked for.
//   - Every value is whole and was asked for, before the cut and after it.
//   - What is there after a restart is there after every later cut, also if the next one comes before
//     anything is written, or while the node starts.
//   - Nothing that is sent when the power is off is acknowledged.
//   - The node becomes ready, is who it was, logs no error, and its digest is that of all that it serves.
//
// # Rounds
//
// A seed says how many users there are, how often the node makes checkpoints, and when the power is cut:
// after a time, or when the node is about to do a sync of some kind for the nth time, or a moment
// later. Some rounds cut it while the node ends, some kill the node and start it before, so that it finds
// what was written and not synced, some cut it several times while the node starts, and some begin with an empty
// directory. Two rounds with the same seed do the same as far as they are not about time.
//
// A node runs with its syncs watched: a filter of system calls (seccomp_unotify(2)) has each of them wait
// until this package has seen it. Nothing in the node's program is there for that.
//
// # Which missing syncs it finds
//
// The same watch can have a sync not done and report success, as if it had been taken out of the code.
// Rounds until each was noticed, with noauto_da_alloc, in three runs:
//
//	entries of the journal             1 to 2
//	content of a segment               1 to 9
//	names of segments                  1 to 7
//	files at a checkpoint              1 to 6
//	state files, format, node id       1 to 3, each round with an empty directory
//	all fdatasync, all fsync           1 to 5
//
// Not found in 60 rounds, because ext4 or a later sync makes up for it:
//
//	saves of the index                 the sync of the next checkpoint is of the whole file system, and until then
//	                                   the save before is good, and the segments it lacks
//	names at the top, of state         any sync of ext4 that changes names makes all older names durable
//	what Open syncs again              the same
//
// Tests of package disk find these, on a file system in memory that makes up for nothing: TestEachSyncIsNeeded and
// TestEachSyncIsNeededToSetDataAside. That the name of a new data directory is synced is looked at
// here, see TestTheNameOfANewDataDirectoryIsSynced.
//
// # What it found
//
// In the first thousand rounds, one loss: the last frame of the journal, written and not synced by a process that was
// killed, told by the next one and gone after a cut. It took another length of segments in that next one. Since that was
// mended, 1,000 rounds in one run, half with each mount, 1,492 cuts and 139,476 writes acknowledged: none lost.
//
// # What it cannot tell
//
// Blocks that were handed to the disk are there after the cut, synced or not: a disk that lies about its
// cache is not played here. And a sync that is under way during the cut may return success and have written
// nothing (seen with Linux 6.18, only in files that grow): when power really fails, nobody is left to be told.
// So whatever a node says after the cut began counts as not said.
package power
