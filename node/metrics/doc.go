// Package metrics tells Prometheus how one node is doing.
//
// A [Metrics] has a registry of its own, so that several nodes in one process do not mix, and
// writes what it has in the Prometheus text format. It measures what only can be measured while it
// happens: requests of clients and between nodes, and syncs of the journal. All else it reads from
// the parts of the node when somebody asks, so that it costs nothing before. Those parts know
// nothing of Prometheus. Who may ask, and over what, is left to the caller.
//
// # Names and labels
//
// Names begin with snakes_, but for those of the Go runtime (go_) and of the process (process_),
// which keep the names that every dashboard knows; they are of the process, which is the same for
// several nodes in it. Labels are bounded: methods, paths without keys, codes, operations, states,
// and members by name. Two members with one name are told apart by the beginning of their ids:
// NAME/5f0c1d2e. What was measured of a member goes with the member. No metric holds a key.
//
// # When things misbehave
//
// Whoever requests methods, paths or codes that do not exist is counted under "other". A scrape
// waits for no disk and no other node. If metrics contradict each other, Write returns an error
// and has written nothing.
//
// # Example
//
//	m := metrics.New("1.0.0")
//	store, err := disk.Open(disk.Config{Dir: "data", Synced: m.Synced})
//	...
//	requests := m.HTTP([]string{"/{key}", "/-/members"})
//	m.Watch(metrics.Sources{Store: store, ...})
//	...
//	requests.Observe("GET", "/foo", 200, time.Since(began))
//	err = m.Write(w)
package metrics
