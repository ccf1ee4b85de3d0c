// Package cluster starts, breaks and questions clusters of real snakes processes.
//
// A Cluster is declared, then each of its Nodes is a process of the binary built from ./cmd/snakes, with a data
// directory, a port and a log of its own. Tests speak to a node only as its users do: over HTTP and by signals.
// What the answers mean is left to the tests; this package knows CONTRACT sections 2, 4 and 5 as far as decoding goes.
//
// Terms: a node is running from Launch until its process has ended; a frozen node is running but gets no processor.
// A node's own exit is wanted only after Kill, Stop or AwaitExit, and any other one fails the test.
//
// Invariants:
//   - No process outlives its test: cleanup kills by process id, and on Linux the kernel does so when the test
//     process itself dies, whatever way.
//   - A port is handed out once per test process, and two test processes never hold the same block of ports, so
//     parallel packages and repeated runs do not meet each other's gossip.
//   - A data race, a panic or a fatal error in any node's log fails the test, whatever the node answered.
//
// With Options.Network = Namespaces or Relayed every node gets a network stack and an address of its own, joined by a switch or a relay, and
// Cut makes packets between sides vanish without an error to anyone, which is how a split looks to a program. Peers
// that misbehave in other ways are made with Kill, Freeze, Wipe, PutBack and ordinary arguments. Clocks and disks are not touched.
//
// The methods that fail a test do it by Fatal and belong in the test's goroutine. Those that return a Response or an
// error can be called from any.
//
//	c := cluster.Start(t, 3)
//	c.Node(2).Kill()
//	if err := c.Node(0).Put("foo", "bar").Expect(201); err != nil {
//		t.Fatal(err)
//	}
//	c.AwaitState(10*time.Second, "failed", c.Node(2))
//	c.Node(2).Start()
//	c.AwaitMembers(10 * time.Second)
package cluster
