//go:build race

package cluster

// raceEnabled says whether this test was built with the race detector, as the nodes then are too.
const raceEnabled = true
