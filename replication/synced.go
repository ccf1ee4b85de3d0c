package replication

import "slices"

// caughtUp is the rule by which a node becomes synced: it has, as of view, what it takes to
// count for reads. blank says that its store does not hold what it once had, or never had
// anything; pulled, of a node, that a pull from it was completed since the start.
//
// A member of the roster in force with its own data has it, and so has one that is alone in
// the roster. All others must have pulled from every member that is live and synced, and
// from so many that every write that was ever acknowledged at level quorum is among what they
// hold: of n members, any n - majority + 1 share one with any majority. They themselves do not
// count. That holds in each roster that may be in force.
func caughtUp(view *View, blank bool, pulled func(id string) bool) bool {
	if len(view.Rosters) == 0 {
		return false // it has not joined yet
	}
	if inForce := view.Rosters[0]; slices.Contains(inForce, view.Self) && (!blank || len(inForce) == 1) {
		return true
	}
	for _, roster := range view.Rosters {
		sources := 0
		for _, id := range roster {
			if id == view.Self {
				continue
			}
			if pulled(id) {
				sources++
			} else if m, known := view.Member(id); known && m.Live && m.Synced {
				return false
			}
		}
		if n := len(roster); sources < n-Majority(n)+1 {
			return false
		}
	}
	return true
}
