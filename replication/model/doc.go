// Package model holds the model of the whole protocol, as tests: random programs of writes,
// reads, faults and changes of the roster, run in memory on fake time.
//
// What runs is production code: replication's Coordinator, Replica, Offers, Syncer, Monitor,
// Memory, Collector and Mender, version.Clock, and membership/roster's Ledger with its agreement.
// What is made up:
//
//   - the network, which loses, delays, repeats and cuts;
//   - the disk, a storetest.Memory that forgets what was under way when its process crashed, and
//     may bring back tombstones that were dropped just before;
//   - wall clocks, which are off and step back;
//   - the thin part of package membership between ledgers and replication's View: who is there
//     the world tells instead of gossip, once a second, and late. A member lets learners count,
//     replaces members of the same name that are gone, forgets, removes ghosts and leaves by the
//     same rules as package membership, in a few lines each;
//   - the part of package node that sets data aside and writes again what only an old copy has.
//
// # Programs
//
// Three to five members at the start, six machines. Clients put, delete and get at various
// levels through any node. Links are cut and heal, nodes crash, stop and start, disks are wiped
// (the machine comes back as a new node under its old name) or replaced by an older copy of
// themselves, nodes join, leave and are forgotten (and come back as new ones), clocks are set,
// records become unreadable. A disk is wiped or set back and a node leaves or is forgotten only
// while a majority of each roster that may be in force is left without it. In the end all faults
// cease. There are several mixes of events, see
// program_test.go.
//
// # What is checked
//
//   - I1: no disk takes an older version of a key than it had.
//   - I3: an acknowledgement by w nodes finds the record durable on w disks; in the end every
//     node has what was acknowledged by a member that has its disk still, and whoever leaves
//     leaves nothing behind that nobody else has seen.
//   - I4: all nodes are synced members and equal within two minutes after the faults.
//   - I5: nobody takes an older version of a key after a tombstone of it was collected anywhere,
//     and in the end no tombstone is left.
//   - I6: what is read was written, as a whole, at that version.
//   - I7: a read that counts as a quorum finds what such a write or read before it found, or
//     something newer, as long as fewer disks than a majority were lost since and nobody who
//     had it was forgotten. An old copy of a disk counts from when somebody notices: before,
//     there may be nobody live who knows better.
//   - I8: rosters in force form one chain, and nobody goes who was not forgotten or replaced.
//   - Whoever has seen a dot holds its record or a newer one, or a tombstone was collected in its
//     place, between all steps.
//   - One dot names one write.
//
// # Mutants
//
// Shortcuts that each look harmless must be noticed within a bounded number of programs:
//
//	live list used as N                               here; roster.TestWrongRulesLetBothSidesPass
//	blank node counted for reads                      here
//	old copy of a disk taken for the disk             here
//	replica that stamps its own time                  here
//	write acknowledged before it is durable           here
//	read repair after the answer                      here
//	promotion without a majority                      here
//	members added before the last one is synced       here
//	roster merge that brings a removed id back        here
//	left before others have it                        here
//	tombstone collected at once                       here; replication.TestShortcutsOfCollectionBringDeletedKeysBack
//	tombstone collected once all have it              replication.TestShortcutsOfCollectionBringDeletedKeysBack
//	roster to come, learners left out of collection   replication.TestShortcutsOfCollectionBringDeletedKeysBack
//	undurable memory of pulls                         replication.TestShortcutsOfCollectionBringDeletedKeysBack
//	undurable dots told                               replication.TestShortcutsOfCatchUpAreNoticed
//	seen set read at the last page, after the keys    replication.TestShortcutsOfCatchUpAreNoticed
//	united after the first page                       replication.TestShortcutsOfCatchUpAreNoticed
//	pull resumed at a cursor with a fresh set         replication.TestShortcutsOfCatchUpAreNoticed
//	records newer than the snapshot left out          replication.TestShortcutsOfCatchUpAreNoticed
//	damaged record skipped and set united             replication.TestShortcutsOfCatchUpAreNoticed
//
// What the model does not notice: a roster left out of the pull. Gossip and every other answer
// bring it, so that it takes a story of its own.
//
// # Running many
//
//	go test ./replication/model -v -timeout 2h -args -programs=6000
//
// runs that many programs, and as many with each mutant, and tells in how many it fell.
package model
