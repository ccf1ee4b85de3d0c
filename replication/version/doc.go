// Package version gives every write its place in one total order that all nodes agree on.
//
// A [Version] is a hybrid logical clock [Timestamp] and a [Dot]. The coordinator of a write
// makes it once, from its [Clock]; it travels with the value and no replica invents another.
// Versions compare by timestamp, then origin, then counter, so two of them are equal only if
// they name the same write: whoever keeps the larger one ends with the same value as everyone
// else, whatever the order of arrival.
//
// # Terms
//
//   - timestamp: wall clock in nanoseconds plus a logical counter for events that the wall
//     clock cannot tell apart (Kulkarni et al., "Logical Physical Clocks", 2014).
//   - origin: a random 64-bit number that a process draws when it starts. A restarted node has
//     another origin, so a counter is never used twice, whatever a crash forgot.
//   - dot: (origin, counter), the identity of one write (Gonçalves et al., "DottedDB", 2017).
//
// # Invariants
//
//   - A clock never issues the same timestamp twice and never goes back, across restarts too,
//     given the floor that the store remembers.
//   - A timestamp further ahead of the local wall clock than [MaxAhead] never moves a clock.
//     A peer whose clock is wrong by a year can spoil the order of its own writes, but not
//     the clocks of the others. This departs from the paper, which has no such bound; it costs
//     that such a peer's writes stay "last" until they are overwritten by a coordinator that
//     holds them (see [Timestamp.Next]).
package version
