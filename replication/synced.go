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
	if view.keepsItsOwn(marked) {
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
		if !lossAccepted && sources < sourcesOf(len(roster)) {
			return false
		}
	}
	return true
}

// keepsItsOwn reports whether this node needs to pull from nobody to be synced.
func (v *View) keepsItsOwn(marked bool) bool {
	return v.inForce(v.Self) && (marked || len(v.Rosters[0]) == 1)
}

// sourcesOf returns from how many of n members a node must have pulled.
func sourcesOf(n int) int { return n - Majority(n) + 1 }

// awaited returns how many members have to be back, live and synced, before this node can be
// synced: without them it waits for ever, unless the loss is accepted.
func awaited(view *View, marked bool, pulled func(id string) bool) int {
	if len(view.Rosters) == 0 || view.keepsItsOwn(marked) {
		return 0
	}
	most := 0
	for _, roster := range view.Rosters {
		sources := 0
		for _, id := range roster {
			m, known := view.Member(id)
			if id != view.Self && (pulled(id) || known && m.Live && m.Synced) {
				sources++
			}
		}
		most = max(most, sourcesOf(len(roster))-sources)
	}
	return most
}
