// Bench measures three nodes of snakes on this machine, beside etcd and bare net/http where that says something.
//
//	go run ./test/bench            all of it, less than 20 minutes
//	go run ./test/bench -quick     a look, less than 2 minutes; its figures are coarse
//	go run ./test/bench -parts work -work 'GET r=1' -duration 10s -rounds 5
//
// It builds ./cmd/snakes, starts nodes of it with data on the real disk, drives them with package node/client/load, and
// writes RESULTS.md and charts into the directory of -out. It needs Linux: it reads /proc and stops processes by
// signals. etcd is whatever is on PATH as "etcd" (Debian: apt-get install etcd-server), up to 3.5, with its v2 HTTP API;
// without it the comparison is left out, and the results say so.
//
// # Parts
//
//   - floor: how long the disk takes to sync, which no durable write can beat.
//   - work: throughput, latency, processor time, memory and bytes written for each workload. Systems take turns on each
//     workload, A B A B, so that whatever changes on the machine meets all of them. All run all the time; the one whose
//     turn it is not is idle. "closed" is snakes with a secret. Bare net/http with gorilla/mux in a process of its own,
//     answering a constant, is what the HTTP API costs without a store: the ceiling.
//   - faults: one of three nodes is killed, frozen, or 500 ms away, while clients of the other two go on; all three are
//     frozen for six seconds and resumed.
//   - keys: what an empty cluster costs, and what a million keys do to throughput, memory, restart and status.
//
// # Where it stands
//
// RESULTS.md is of -connections 1,64 -sizes 256,16384, on a machine that was a third slower than in the run before, for etcd and bare net/http
// too. Its first round of PUT with 1 connection met the removal of millions of files by something else (2/s; the second round 646/s),
// and 730,000 keys is what four minutes were enough for; -fill 10m makes more. Since then a read at quorum no longer waits for the node that is
// 500 ms slow (153/s there): -parts faults then had 10,466/s with it and 9,062/s before, p99 22.9 and 22.0 ms.
//
// Most goals of speed are missed. At 64 connections the two processors are what limits all. A PUT w=3 takes some 400 µs of them on
// three nodes, about 270 in user code: a third is Store.Apply, three times for each write (a quarter of that look-ups in the B-trees of
// the index, a third the journal), a half serving HTTP, two batches of some five writes to the other nodes included, which cost 60 µs
// each for net/http alone; a sync is 70 µs of system time, and is shared by five or six records. What would help, in this order: fewer and
// larger batches and syncs under load, a stream for batches in place of a request for each, an index of keys by hash. Tried without
// much gain: letting what is ready to run go first before a batch of the journal is written or a batch leaves for a node (10 % fewer syncs).
//
// Files are what reads pay for after a burst of writes: 30 to 60 µs each, in the kernel. They are written with rests while there is load, so
// with several hundred thousand keys reads meet them for minutes: 3,500 GETs r=1 a second instead of 24,000 with 730,000 keys
// right after they were written, most of them from files.
//
// # What the figures mean
//
// The generator and all servers share the processors of one machine: figures are for comparing, not for sizing. Loads
// are closed loops over kept-alive connections, which flatters high percentiles of whoever stalls; see package load.
// A request that fails counts for no throughput. CPU is of the servers, all three together, in microseconds for each
// request. "Written" is what the disk got for each byte of value on each node that stores it, files that are written
// later and the file system's own journal included; whatever else writes to that disk meanwhile counts, too. Memory is
// resident and of the largest process; the live heap is what a collection of garbage leaves in a node that was just
// restarted, and so has no values in memory, above what it leaves in one without keys.
//
// The same work is not the same promise: w=3 is on three disks, and etcd acknowledges with two; r=3 asks three nodes,
// and etcd's quorum read two, through its leader. Neither is made to do less for the comparison.
//
// All processes end with this one, and their data are removed unless -keep is given.
package main
