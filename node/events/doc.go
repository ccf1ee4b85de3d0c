// Package events keeps the last of what happened to a node, for people who ask later.
//
// What happens is what the parts of a node log at info or above, and the pulls that they complete:
// members that change, catching up, repairs, tombstones that go, a disk that fails. So there is
// one place where a thing is said, and nothing can be told here and not there. A [Log] keeps the
// last [Kept] of them in memory, whatever the level of the log is; it ends with the process.
//
// It leaves to others: what is worth a line, and how events travel to whoever asks.
//
// What may tell about the machine stays in the log: the facts "file", "path", "directory", "stack"
// and "seeds", and the errors of the disk, which have paths in them.
//
//	log := events.New()
//	logger := log.Tee(logger) // for all that the node is made of
//	...
//	kept, changed := log.After(0)
package events
