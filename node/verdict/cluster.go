package verdict

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/node/client"
)

// cluster is what all views say, by node.
type cluster struct {
	now   time.Time
	nodes map[string]*node
	// answered are the nodes that gave a view, ascending by name.
	answered []*node
}

// node is what is said of one node.
type node struct {
	id string
	// server is where it was asked, empty if it was not; view what it said, nil if it did not answer, since err.
	server string
	view   *client.Members
	err    error
	// self is what it says of itself, by is what those that answered say of it, self included.
	self client.Member
	by   map[string]client.Member
}

func newCluster(views []client.View, now time.Time) *cluster {
	c := &cluster{now: now, nodes: make(map[string]*node)}
	for _, v := range views {
		if v.Err != nil {
			if v.ID != "" {
				n := c.node(v.ID)
				n.server, n.err = v.Server, v.Err
			}
			continue
		}
		n := c.node(v.Members.SelfID)
		n.server, n.view, n.err = v.Server, &v.Members, nil
		for _, m := range v.Members.Members {
			c.node(m.ID).by[n.id] = m
			if m.ID == n.id {
				n.self = m
			}
		}
	}
	for _, n := range c.nodes {
		if n.view != nil {
			c.answered = append(c.answered, n)
		}
	}
	sortNodes(c.answered)
	return c
}

func (c *cluster) node(id string) *node {
	n, known := c.nodes[id]
	if !known {
		n = &node{id: id, by: make(map[string]client.Member)}
		c.nodes[id] = n
	}
	return n
}

func sortNodes(nodes []*node) {
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Or(cmp.Compare(a.name(), b.name()), cmp.Compare(a.id, b.id)) })
}

// seen is what is known of n: by itself or, without its answer, by the one of the others that knows it longest as it is.
func (n *node) seen() client.Member {
	if n.view != nil {
		return n.self
	}
	var all []client.Member
	for _, m := range n.by {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b client.Member) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.State, b.State))
	})
	// One that holds it for missing knows more than one that has not noticed yet.
	for _, m := range all {
		if missing(m.State) {
			return m
		}
	}
	if len(all) == 0 {
		return client.Member{ID: n.id}
	}
	return all[0]
}

func (n *node) name() string {
	if m := n.seen(); m.Name != "" {
		return m.Name
	}
	return n.id
}

// url is where n, which answered, is asked.
func (n *node) url() string {
	if n.server != "" {
		return n.server
	}
	return base(n.view.TLS, n.self)
}

// base is the URL of a member of which it is not known how it is asked: as the others are.
func (c *cluster) base(m client.Member) string { return base(c.best().TLS, m) }

func base(tls bool, m client.Member) string {
	if tls {
		return "https://" + m.Address
	}
	return "http://" + m.Address
}

// missing reports whether a member in a state does nothing.
func missing(state string) bool { return state == "failed" || state == "stopped" }

// members are the nodes that count for N in some view, ascending by name.
func (c *cluster) members() (members []*node) {
	for _, n := range c.nodes {
		for _, m := range n.by {
			if counts(m) {
				members = append(members, n)
				break
			}
		}
	}
	sortNodes(members)
	return members
}

// counts reports whether a member is among those that should exist.
func counts(m client.Member) bool { return !m.Learner && m.State != "joining" }

// others are all nodes that gave no answer, ascending by name.
func (c *cluster) others() (others []*node) {
	for _, n := range c.nodes {
		if n.view == nil && len(n.by) > 0 {
			others = append(others, n)
		}
	}
	sortNodes(others)
	return others
}

// best is the view that counts where there is one to choose, see bestNode.
func (c *cluster) best() *client.Members { return c.bestNode().view }

// bestNode is a node that takes writes, and of those one that has noticed most losses; else one that sees the most
// members alive.
func (c *cluster) bestNode() *node {
	return slices.MaxFunc(c.answered, func(a, b *node) int {
		switch {
		case a.view.Writable && b.view.Writable:
			return cmp.Compare(b.view.Alive, a.view.Alive)
		case a.view.Writable:
			return 1
		case b.view.Writable:
			return -1
		}
		return cmp.Compare(a.view.Alive, b.view.Alive)
	})
}

// settled reports whether n has answered and has met the members that it knows.
func (n *node) settled() bool {
	return n.view != nil && n.self.State != "joining" && n.self.State != "syncing"
}

// misses reports whether n says that it does not reach other.
func (n *node) misses(other *node) bool {
	state := other.by[n.id].State
	return state == "failed" || state == "suspect"
}

// apart reports whether two nodes that run know nothing of each other, or neither reaches the other.
func apart(a, b *node) bool {
	lost := func(a, b *node) bool {
		_, known := b.by[a.id]
		return !known || a.misses(b)
	}
	return a.settled() && b.settled() && lost(a, b) && lost(b, a)
}

// sides returns the nodes that answered by sides; those that take writes are on the first.
func (c *cluster) sides() [][]*node {
	var sides [][]*node
	left := slices.Clone(c.answered)
	for len(left) > 0 {
		side := []*node{left[0]}
		left = left[1:]
		for i := 0; i < len(side); i++ {
			left = slices.DeleteFunc(left, func(n *node) bool {
				if apart(side[i], n) {
					return false
				}
				side = append(side, n)
				return true
			})
		}
		sortNodes(side)
		sides = append(sides, side)
	}
	slices.SortStableFunc(sides, func(a, b []*node) int {
		return cmp.Or(cmp.Compare(writersOf(b), writersOf(a)), cmp.Compare(len(b), len(a)))
	})
	return sides
}

func writersOf(side []*node) (writers int) {
	for _, n := range side {
		if n.view.Writable {
			writers++
		}
	}
	return writers
}

func (c *cluster) namesOf(sides [][]*node) (names [][]string) {
	for _, side := range sides {
		names = append(names, namesOf(side))
	}
	return names
}

func namesOf(nodes []*node) (names []string) {
	for _, n := range nodes {
		names = append(names, n.name())
	}
	return names
}

// quoted returns a word of a command line: a shell would take brackets for a pattern.
func quoted(word string) string {
	if strings.ContainsAny(word, "[]?*&'\" ") {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

func curl(server, path string) string { return "curl -sS -m 5 " + quoted(server+path) }

// snakes returns a command line that asks a server.
func snakes(command, server string) string {
	return "snakes " + command + " --server " + quoted(server)
}
