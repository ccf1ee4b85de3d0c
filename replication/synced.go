package replication

// caughtUp is the rule by which a node becomes synced: it has, as of view, what it takes to
// count for reads. marked says that it was synced as a member of this cluster with the data
// that it has; lossAccepted, that what only members hold that are not live is given up; pulled,
// of a node, that a pull from it was completed since the start, by a member since it is one.
//
// A member of the roster in force that is marked has it, and so has one that is alone in the
// roster. All others must have pulled from every member that is live and synced, and from so
// many that every write that was ever acknowledged at level quorum is among what they hold: of
// n members, any n - majority + 1 share one with any majority. They themselves do not count.
// That holds in each roster that may be in force.
func caughtUp(view *View, marked, lossAccepted bool, pulled func(id string) bool) bool {
	if len(view.Rosters) == 0 {
		return false // it has not joined yet
	}
	if view.inForce(view.Self) && (marked || len(view.Rosters[0]) == 1) {
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
		if n := len(roster); !lossAccepted && sources < n-Majority(n)+1 {
			return false
		}
	}
	return true
}
