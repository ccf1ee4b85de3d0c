package verdict

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/node/client"
)

// scarce is how much of a file system is free, as a part of it, when that is worth a word.
const scarce = 1.0 / 20

// problems are those that do not come from nodes that do not reach each other.
func (c *cluster) problems() (all []Problem) {
	if !slices.ContainsFunc(c.answered, func(n *node) bool { return n.view.Writable }) {
		all = append(all, c.noWrites())
	}
	for _, n := range c.others() {
		all = append(all, c.unheard(n)...)
	}
	for _, n := range c.answered {
		all = append(all, c.unready(n)...)
		all = append(all, c.disk(n)...)
	}
	return slices.Concat(all, c.disagreement(), c.exposure(), c.releases())
}

// noWrites is the problem that no node which answered takes writes.
func (c *cluster) noWrites() Problem {
	best := c.bestNode()
	v := best.view
	p := Problem{Word: NoWrites, Command: snakes("members", best.url())}
	if v.Alive < v.Quorum {
		p.What = fmt.Sprintf("No write passes: %d of %s %s alive, and a write needs %d.",
			v.Alive, plural(v.Known, "member", "members"), verb(v.Alive, "is", "are"), v.Quorum)
		p.Do = "Start those that are missing. If so many are lost for ever that no majority is left, forget each with --force."
		p.Command = snakes(fmt.Sprintf("status --wait alive=%d --timeout 10m", v.Quorum), best.url())
		return p
	}
	p.What = "No write passes."
	for _, check := range []string{"joined", "disk writable", "default write level reachable"} {
		if why, found := unready(v, check); found {
			p.What = fmt.Sprintf("No write passes: %s says: %s.", best.name(), why)
			break
		}
	}
	p.Do = "See to what is listed with it."
	return p
}

// unready returns why a node is not ready, by a check.
func unready(v *client.Members, check string) (why string, found bool) {
	for _, u := range v.Unready {
		if u.Check == check {
			return strings.TrimSuffix(u.Why, "."), true
		}
	}
	return "", false
}

// unheard are the problems of a node that gave no answer.
func (c *cluster) unheard(n *node) []Problem {
	m, by := n.seen(), c.bestNode().url()
	p := Problem{Word: Degraded, Node: n.name()}
	switch {
	case m.State == "joining":
		return nil // it is nobody's yet
	case missing(m.State):
		p.What = fmt.Sprintf("%s is %s since %s.", n.name(), m.State, c.since(m.Since))
		if blocks := n.blocks(); blocks > 0 {
			p.What = fmt.Sprintf("%s is %s since %s, and the marks of %s are kept for it.", n.name(), m.State, c.since(m.Since), plural(int(blocks), "delete", "deletes"))
		}
		p.Do = "Start it again. If it never comes back, start a new node under its name with --join, or have the cluster forget it."
		p.Command = snakes("forget "+c.address(n), by)
		if m.Learner {
			p.Word = OK
			p.What = fmt.Sprintf("%s, which has not become a member yet, is %s since %s.", n.name(), m.State, c.since(m.Since))
		}
	case m.State == "suspect":
		p.What = fmt.Sprintf("%s does not answer the others since %s, but is not given up yet.", n.name(), c.since(m.Since))
		p.Do = "See whether it hangs, and what keeps it busy."
		p.Command = curl(c.base(m), "/-/ready")
	case m.State == "draining":
		p.What = fmt.Sprintf("%s is draining since %s: others are to be chosen.", n.name(), c.since(m.Since))
		p.Do = "Wait until it is restarted. If it was drained by mistake, call that off."
		p.Command = snakes("undrain", c.base(m))
	case m.State == "syncing":
		p.What = fmt.Sprintf("%s fetches what it missed%s.", n.name(), progress(m))
		p.Do, p.Command = waitReady(by)
		if m.Learner {
			p.Word = OK
		}
	default:
		p.Word = OK
		p.What = fmt.Sprintf("%s is alive, as others say, but was not asked here.", n.name())
		if n.err != nil {
			p.What = fmt.Sprintf("%s is alive, as others say, but gives no answer here: %v.", n.name(), n.err)
		}
		p.Do = "Nothing, if its address cannot be reached from here."
		p.Command = curl(c.base(m), "/-/ready")
	}
	return []Problem{p}
}

// blocks is for how many tombstones a node waits for n, at most.
func (n *node) blocks() (most uint64) {
	for _, m := range n.by {
		most = max(most, m.Blocks)
	}
	return most
}

// address is the name of n, or its id if another one has the same name.
func (c *cluster) address(n *node) string {
	for _, other := range c.nodes {
		if other != n && other.name() == n.name() {
			return n.id
		}
	}
	return n.name()
}

func waitReady(server string) (do, command string) {
	return "Wait until it has everything.", snakes("status --wait ready --timeout 10m", server)
}

func progress(m client.Member) string {
	if m.Progress == nil || m.Progress.Offered == 0 {
		return ""
	}
	return fmt.Sprintf(", and has %d of %s", m.Progress.Pulled, plural(int(m.Progress.Offered), "key", "keys"))
}

// since is a time for people, and how long ago that is.
func (c *cluster) since(at time.Time) string {
	return fmt.Sprintf("%s (%s)", at.UTC().Format(time.RFC3339), Ago(c.now.Sub(at)))
}

// Ago returns how long ago something was for people, in at most two units, such as "4m12s" or "3d2h". What lies ahead
// is "0s".
func Ago(d time.Duration) string {
	d = max(d, 0)
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// unready are the problems that a node which answered has with itself.
func (c *cluster) unready(n *node) (all []Problem) {
	for _, u := range n.view.Unready {
		p := Problem{
			Word: Degraded, Node: n.name(), What: fmt.Sprintf("%s: %s.", n.name(), strings.TrimSuffix(u.Why, ".")),
			Do: "See what happened to it.", Command: snakes("events", n.url()),
		}
		switch u.Check {
		case "joined":
			p.Do = "Start the nodes that it is to join, or see what keeps it from them."
		case "synced":
			p.What = fmt.Sprintf("%s fetches what it missed%s.", n.name(), progress(n.self))
			if n.self.Progress == nil || n.self.Progress.Offered == 0 {
				p.What = fmt.Sprintf("%s: %s.", n.name(), strings.TrimSuffix(u.Why, "."))
			}
			p.Do, p.Command = waitReady(n.url())
			if _, alone := unready(n.view, "joined"); alone {
				continue // that comes first
			}
			if n.self.Learner {
				p.Word = OK
			}
		case "disk writable":
			p.Do, p.Command = "On its machine, see what the disk reported; then restart the node.", "dmesg | tail -n 30"
			if n.view.Disk.Full {
				p.Do, p.Command = "On its machine, make room; then it goes on by itself.", "df -h"
			}
		case "default write level reachable":
			if n.view.Alive < n.view.Quorum || n.self.State == "joining" || !n.view.Disk.Full && n.view.Disk.Latched {
				continue // it is told of the whole, or of the cause
			}
		case "clock":
			p.Do, p.Command = "On its machine, set the clock right.", "timedatectl status"
		case "staying":
			p.What = fmt.Sprintf("%s is draining since %s: others are to be chosen.", n.name(), c.since(n.self.Since))
			p.Do, p.Command = "Restart it when its clients have gone. If it was drained by mistake, call that off.", snakes("undrain", n.url())
		}
		all = append(all, p)
	}
	return all
}

// disk are the problems of the disk of a node that answered, but for those that it is not ready for.
func (c *cluster) disk(n *node) (all []Problem) {
	d := n.view.Disk
	if d.Damaged > 0 {
		all = append(all, Problem{
			Word: Degraded, Node: n.name(), What: fmt.Sprintf("%s cannot read %s of its own.", n.name(), plural(d.Damaged, "record", "records")),
			Do: "It fetches them from the others by itself. If that does not end, no other member has them.", Command: snakes("events", n.url()),
		})
	}
	if !d.Full && d.Size > 0 && float64(d.Free) < scarce*float64(d.Size) {
		all = append(all, Problem{
			Word: OK, Node: n.name(), What: fmt.Sprintf("%s has %d%% of its disk left.", n.name(), d.Free*100/d.Size),
			Do: "On its machine, make room before it is full.", Command: "df -h",
		})
	}
	return all
}

// disagreement is the problem that nodes which reach each other count others as members.
func (c *cluster) disagreement() []Problem {
	rosters := make(map[string][]string) // the names of those who say it, by the members' ids
	for _, n := range c.answered {
		if !n.settled() {
			continue
		}
		var ids []string
		for _, m := range n.view.Members {
			if counts(m) {
				ids = append(ids, m.ID)
			}
		}
		slices.Sort(ids)
		roster := strings.Join(ids, " ")
		rosters[roster] = append(rosters[roster], n.name())
	}
	if len(rosters) < 2 {
		return nil
	}
	var says []string
	for roster, names := range rosters {
		says = append(says, fmt.Sprintf("%s %s %d", list(names), verb(len(names), "knows", "know"), len(strings.Fields(roster))))
	}
	slices.Sort(says)
	return []Problem{{
		Word: Degraded, What: "Nodes do not agree on who the members are: " + strings.Join(says, ", ") + ".",
		Do: "Wait some seconds: they tell each other.", Command: snakes("status", c.bestNode().url()),
	}}
}

// exposure is the problem that anybody on the network can read and write everything.
func (c *cluster) exposure() []Problem {
	var names []string
	for _, n := range c.answered {
		if n.view.Exposed {
			names = append(names, n.name())
		}
	}
	if names == nil {
		return nil
	}
	return []Problem{{
		Word: Insecure, What: fmt.Sprintf("Anybody who reaches %s can read and write everything.", list(names)),
		Do:      "Draw a secret, bring it to every machine, and start the nodes with --secret-file instead of --insecure.",
		Command: "snakes secret snakes.secret",
	}}
}

// releases is the remark that members run several releases.
func (c *cluster) releases() []Problem {
	by := make(map[string][]string)
	for _, n := range c.members() {
		if m := n.seen(); m.Version != "" && !missing(m.State) {
			by[m.Version] = append(by[m.Version], n.name())
		}
	}
	if len(by) < 2 {
		return nil
	}
	var says []string
	for _, version := range slices.Sorted(maps.Keys(by)) {
		says = append(says, fmt.Sprintf("%s %s", list(by[version]), version))
	}
	return []Problem{{
		Word: OK, What: "Members run several releases: " + strings.Join(says, ", ") + ".",
		Do: "Bring the others to the newest one, too.", Command: snakes("members", c.bestNode().url()),
	}}
}
