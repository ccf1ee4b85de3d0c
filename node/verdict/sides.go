package verdict

import "fmt"

// split is the problem that members run which do not reach each other.
func (c *cluster) split(sides [][]*node) Problem {
	from, to := sides[0][0], sides[1][0]
	return Problem{
		Word: Split,
		What: fmt.Sprintf("Nodes run that hold each other for missing: %s.", sidesText(c.namesOf(sides))),
		Do: fmt.Sprintf("Let TCP and UDP through between them at the ports of their addresses. On the machine of %s, see whether %s can be reached.",
			from.name(), to.name()),
		Command: curl(c.base(to.self), "/-/healthy"),
	}
}

// pairs are the problems of nodes that some others do not reach although they run, while nobody is cut off from all.
func (c *cluster) pairs() (all []Problem) {
	for _, to := range c.answered {
		if !to.settled() {
			continue
		}
		var from []*node
		for _, n := range c.answered {
			if n != to && n.settled() && n.misses(to) {
				from = append(from, n)
			}
		}
		if len(from) == 0 {
			continue
		}
		all = append(all, Problem{
			Word: Degraded, Node: to.name(),
			What: fmt.Sprintf("%s runs, but %s not reach it.", to.name(), list(namesOf(from))+" "+verb(len(from), "does", "do")),
			Do: fmt.Sprintf("Let TCP and UDP through between them at the ports of their addresses. On the machine of %s, see whether %s can be reached.",
				from[0].name(), to.name()),
			Command: curl(c.base(to.self), "/-/healthy"),
		})
	}
	return all
}
