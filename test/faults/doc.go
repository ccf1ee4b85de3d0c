// Package faults hurts clusters of real processes under load, and checks all that their clients saw.
//
// A round: clients of all nodes write, delete and read a few keys; a fault begins, lasts for a while and ends; the clients stop; the
// cluster settles; then everything that clients were told is compared with what a correct cluster could have told them, and with
// what the nodes have in the end. Rounds of one fault follow each other on one cluster, whose nodes forget tombstones after 20 s, or after
// one where no write can be on its way for longer.
//
//	go test ./test/faults                                          a few faults; with CI=true one round of each
//	go test ./test/faults -run TestFaults/kill -rounds 200 -seed 7 -v
//	go test ./test/faults -duration 10m -timeout 10h -results RESULTS.md
//
// As many faults are tried at the same time as there are processors; with -parallel 1 none disturbs another's times.
//
// The seed is printed; round i of -seed S is the first round of -seed S+i, as far as rounds are not about time. The history of a round
// that went wrong is kept, one operation a line, see -histories. RESULTS.md has the counts of all runs, by fault and commit.
//
// # Terms
//
// An operation is one request of a client: its outcome is done, absent (a read of nothing), refused (nothing was done: 4xx,
// or "written":false) or unknown. Every value is put once. Clients of one key keep to one setting, a level for reads and one for
// writes: the default, quorum, r=1 with w=all, r=1 with w=1. Victims are the nodes that a fault hits; the outvoted are those that it
// leaves without a majority.
//
// # What must hold
//
// The numbers are those of DESIGN.
//
//   - I1: what a node answers at r=1 never gets older.
//   - I3, I9: what was acknowledged is there in the end, or something newer; with a disk lost, what one node alone
//     acknowledged is exempt. And no node finds that it lacks what it told others, unless its disk was lost.
//   - I2, I4: within 15 s all nodes are ready, see each other, and have the same digest, which is that of all the keys that each of them
//     lists and serves.
//   - I5: what was deleted stays so, over the rounds after the nodes forgot it, too.
//   - I6: every answer is one whole value that was put to this key, with one version, or two if it was stamped anew; and no version has
//     two values.
//   - I7: with default levels or quorum, no outvoted node answers anything but errors.
//   - I8: nodes that are not hit count all members, all the time.
//   - With default levels or quorum, a read from any node finds what was acknowledged to anybody or read by anybody before
//     it began, or something newer; with w=all and r=1 what was acknowledged.
//   - What was refused is never seen.
//   - With default levels or quorum, the operations of a key have an order in which each happens at one moment between its begin and its
//     end, if a write that was stamped anew may count as two writes of the same value. RESULTS.md counts the keys that need that
//     as "twice". Porcupine looks for that order; keys for which it takes too long are counted as undecided.
//
// # What is measured
//
// The error window of a round is the longest time without a good answer to a plain write, or a plain read, at any one node that was not
// hit; failed counts the requests there that were answered badly or not at all. The time to recover is that from the end of the fault,
// when processes run again and networks are whole, to the moment when all nodes are ready and have the same.
//
// # Whether it would notice
//
// TestEachPlantedBugIsFound builds the program with one mistake each, and says within how many rounds each has to be found: see bugs.
// TestWhichSettingsAreLinearizable looks for examples against the settings of which README does not say that they are.
//
// # What it needs
//
// Linux and root; iproute2 and TUN devices for networks, loop devices and e2fsprogs for disks, strace for system calls that
// fail. What is missing is said, and fails with CI=true. Networks are namespaces, whose packets a relay of package cluster carries.
// Clocks are those of nodes that this package's own program turns into, since nothing else can shift the clock of a Go program.
//
// Power cuts of a node alone are played by package power, which knows its syncs, and the protocol with fake time and messages by replication/model.
package faults
