// Package seen keeps exact sets of writes.
//
// A [Set] holds dots (see package version): per origin a base, meaning all counters from 1 to
// base, plus ranges beyond it. A node puts every dot into its set that it has applied or has
// discarded because something newer was there, so comparing two sets tells exactly which
// writes one node has and another lacks, without looking at a single key. Because counters of
// an origin are given without gaps, a set costs a few numbers per origin however many writes
// it stands for.
//
// Sets only grow. Union is commutative, associative and idempotent, which is what makes the
// order and the number of exchanges between nodes irrelevant.
//
// Source: Gonçalves et al., "DottedDB: Anti-Entropy without Merkle Trees, Deletes without
// Tombstones", SRDS 2017, section III (node clocks). The base plus ranges replace the
// paper's bitmap: a burst that overtakes one lost write costs one range, not a bit per write.
//
// # Invariants
//
//   - Two sets with the same dots are deeply equal: ranges are sorted, do not touch each
//     other, and the first starts at least two above the base.
//   - Counter 0 is in no set: counters start at 1.
//   - [Set.Hash] depends on the dots alone; each origin contributes on its own, so that it is
//     kept up to date in constant time per origin that changes.
package seen
