package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Network says how nodes reach each other.
type Network int

const (
	// Loopback gives every node a port of its own on 127.0.0.1. It needs nothing.
	Loopback Network = iota

	// Namespaces gives every node a network stack of its own, the port 9000 and an address 10.77.0.x that only its
	// cluster can see, so that Cut and Heal work. It needs Linux, root and iproute2; where one is missing, the test is
	// skipped, or fails with CI=true. Nodes get --bind ADDRESS --insecure.
	Namespaces

	// Relayed is as Namespaces, but all packets pass through the test process, so that Shape works as well. It takes more of the
	// processor, and TUN devices.
	Relayed
)

// Way is what happens to the packets from one node to another. The zero Way is a good one.
type Way struct {
	// Delay is how much later they arrive, Jitter the most that is added to it; with jitter they overtake each other.
	Delay, Jitter time.Duration
	// Loss, Doubled and Overtaken are the parts of them, 0 to 1, that vanish, arrive twice, or after some that were sent later.
	Loss, Doubled, Overtaken float64
	// MTU is the size in bytes of the largest packet that arrives; 0 means that all do.
	MTU int
	// NoUDP has all UDP vanish, NoGossip that and the TCP connections of memberlist, NoHTTP all other TCP connections once
	// they said something.
	NoUDP, NoGossip, NoHTTP bool
}

// startDeadline is how long a process may take to answer at all. It is generous: what a test measures, it checks itself.
const startDeadline = 15 * time.Second

// Options declares a cluster. The zero value is one without nodes.
type Options struct {
	// Nodes is how many nodes are declared at first, named n0, n1, ...
	Nodes int

	// Network is how they reach each other and the test reaches them.
	Network Network

	// ClusterName is the --cluster of all nodes; empty means a name that no other Cluster has.
	ClusterName string

	// Unnamed leaves --name out, so that nodes go by the names that they give themselves.
	Unnamed bool

	// Args are added to the command line of every node.
	Args []string

	// Binary is the program to run instead of the one built from ./cmd/snakes. Env is added to its environment.
	Binary string
	Env    []string
}

// Cluster is a set of declared nodes, some of them running. Its methods belong in the test's goroutine.
type Cluster struct {
	t       testing.TB
	options Options
	dir     string
	nodes   []*Node
	wires   *wires // nil on loopback
}

var clustersMade atomic.Int64

// Start starts a cluster of that many nodes on loopback, all but the first joining the first, and returns when every
// node sees all of them alive. All end with the test.
func Start(t testing.TB, nodes int) *Cluster {
	t.Helper()
	c := New(t, Options{Nodes: nodes})
	c.Start()
	return c
}

// New declares a cluster and starts nothing. What is started later ends with the test.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.ClusterName == "" {
		o.ClusterName = fmt.Sprintf("t%d-%d", os.Getpid(), clustersMade.Add(1))
	}
	if o.Binary == "" {
		o.Binary = Binary(t)
	}
	c := &Cluster{t: t, options: o, dir: t.TempDir()}
	if o.Network != Loopback {
		w, err := newWires(o.Network)
		if err != nil {
			Missing(t, "this test cuts networks and lacks %v", err)
		}
		c.wires = w
	}
	t.Cleanup(c.close)
	for range o.Nodes {
		c.AddNode()
	}
	return c
}

// AddNode declares one more node, with an empty data directory, an address of its own and args on its command line.
func (c *Cluster) AddNode(args ...string) *Node {
	c.t.Helper()
	i := len(c.nodes)
	name := fmt.Sprintf("n%d", i)
	n := &Node{
		cluster: c,
		Host:    "127.0.0.1",
		Port:    9000,
		Data:    filepath.Join(c.dir, name),
		Args:    args,
		logPath: filepath.Join(c.dir, name+".log"),
	}
	if !c.options.Unnamed {
		n.Name = name
	}
	var err error
	if c.wires != nil {
		n.namespace, n.Host, err = c.wires.addNode()
	} else {
		n.Port, err = processPorts.free()
	}
	if err != nil {
		c.t.Fatalf("declare node %s: %v", name, err)
	}
	n.client = newClient(n.namespace)
	c.nodes = append(c.nodes, n)
	return n
}

// Node returns the i-th declared node, from 0.
func (c *Cluster) Node(i int) *Node { return c.nodes[i] }

// Nodes returns all declared nodes, running or not.
func (c *Cluster) Nodes() []*Node { return slices.Clone(c.nodes) }

// Running returns the declared nodes whose process has not ended, frozen ones included.
func (c *Cluster) Running() []*Node {
	return slices.DeleteFunc(c.Nodes(), func(n *Node) bool { return !n.Running() })
}

// Start starts all declared nodes, the first one alone, then the others at once with --join naming the first, and waits
// until every node sees all of them alive.
func (c *Cluster) Start() {
	c.t.Helper()
	c.nodes[0].Start()
	for _, n := range c.nodes[1:] {
		n.Launch("--join", c.nodes[0].Addr())
	}
	for _, n := range c.nodes[1:] {
		n.AwaitAnswer(startDeadline)
	}
	c.AwaitMembers(20 * time.Second)
}

// StartAll starts all nodes that are not running at once, args added to their usual ones, and waits until each has
// answered something. It adds no --join.
func (c *Cluster) StartAll(args ...string) {
	c.t.Helper()
	var started []*Node
	for _, n := range c.nodes {
		if !n.Running() {
			n.Launch(args...)
			started = append(started, n)
		}
	}
	for _, n := range started {
		n.AwaitAnswer(startDeadline)
	}
}

// Cut makes packets between the sides vanish in both directions until Heal; each side lists node numbers. Connections
// see silence, not errors. Nodes in no side go on reaching all. Cuts add up. Not on Loopback.
func (c *Cluster) Cut(sides ...[]int) {
	c.t.Helper()
	c.needWires("Cut")
	for s, side := range sides {
		for o, other := range sides {
			if s == o {
				continue
			}
			for _, from := range side {
				for _, to := range other {
					if err := c.wires.split(from, to); err != nil {
						c.t.Fatalf("cut n%d from n%d: %v", from, to, err)
					}
				}
			}
		}
	}
}

// CutOneWay makes the packets from one node to another vanish, but not those of the other direction, until Heal.
// Not on Loopback.
func (c *Cluster) CutOneWay(from, to int) {
	c.t.Helper()
	c.needWires("CutOneWay")
	if err := c.wires.split(from, to); err != nil {
		c.t.Fatalf("cut the way from n%d to n%d: %v", from, to, err)
	}
}

// Shape says what happens to the packets from one node to another until Heal. Only with Relayed.
func (c *Cluster) Shape(from, to int, w Way) {
	c.t.Helper()
	if c.options.Network != Relayed {
		c.t.Fatal("Shape needs Options.Network = Relayed")
	}
	c.wires.shape(from, to, w)
}

// Heal undoes all cuts and makes all ways good.
func (c *Cluster) Heal() {
	c.t.Helper()
	c.needWires("Heal")
	if err := c.wires.heal(); err != nil {
		c.t.Fatalf("heal the network: %v", err)
	}
}

func (c *Cluster) needWires(method string) {
	c.t.Helper()
	if c.wires == nil {
		c.t.Fatalf("%s needs Options.Network = Namespaces or Relayed", method)
	}
}

// close ends all processes and reports what they left in their logs.
func (c *Cluster) close() {
	for _, n := range c.nodes {
		if err := n.end(); err != nil {
			c.t.Errorf("end %s: %v", n, err)
		}
	}
	for _, n := range c.nodes {
		for _, sign := range []string{"WARNING: DATA RACE", "\npanic: ", "\nfatal error: "} {
			if strings.Contains("\n"+n.Log(), sign) {
				c.t.Errorf("the log of %s contains %q", n, strings.TrimSpace(sign))
			}
		}
	}
	if c.t.Failed() {
		for _, n := range c.nodes {
			c.t.Logf("log of %s (%s):\n%s", n, n.state(), tail(n.Log(), 60))
		}
	}
	if c.wires != nil {
		if err := c.wires.close(); err != nil {
			c.t.Errorf("close the network: %v", err)
		}
	}
}

// tail returns the last lines of text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if cut := len(all) - lines; cut > 0 {
		all = append([]string{fmt.Sprintf("... %d lines before", cut)}, all[cut:]...)
	}
	return strings.Join(all, "\n")
}

// Await calls condition until it returns nil and fails the test with the last error when that has not happened within
// d; what names the state waited for. The logs of all nodes follow, as in every failed test.
func (c *Cluster) Await(d time.Duration, what string, condition func() error) {
	c.t.Helper()
	Await(c.t, d, what, condition)
}

// Await calls condition until it returns nil and fails the test with the last error when that has not happened within
// d; what names the state waited for.
func Await(t testing.TB, d time.Duration, what string, condition func() error) {
	t.Helper()
	start := time.Now()
	pause := 5 * time.Millisecond
	for {
		err := condition()
		if err == nil {
			return
		}
		if waited := time.Since(start); waited > d {
			t.Fatalf("no %q after %v: %v", what, waited.Round(time.Millisecond), err)
		}
		time.Sleep(pause)
		pause = min(pause*3/2, 100*time.Millisecond)
	}
}

// Throughout calls condition again and again for all of d and fails the test at its first error; what names the state
// that has to last.
func (c *Cluster) Throughout(d time.Duration, what string, condition func() error) {
	c.t.Helper()
	for start := time.Now(); time.Since(start) < d; time.Sleep(50 * time.Millisecond) {
		if err := condition(); err != nil {
			c.t.Fatalf("%q lasted only %v: %v", what, time.Since(start).Round(time.Millisecond), err)
		}
	}
}

// AwaitMembers waits until each of the nodes sees exactly these nodes as members: known, alive and synced, at their
// addresses.
// No nodes means all that run.
func (c *Cluster) AwaitMembers(d time.Duration, nodes ...*Node) {
	c.t.Helper()
	if len(nodes) == 0 {
		nodes = c.Running()
	}
	c.Await(d, fmt.Sprintf("%d members, all alive", len(nodes)), func() error { return CheckMembers(nodes...) })
}

// CheckMembers returns nil when each of the nodes sees exactly these nodes as members, all alive and synced, and
// otherwise what each of them sees instead.
func CheckMembers(nodes ...*Node) error {
	var errs []error
	for _, observer := range nodes {
		m, err := observer.Members()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if m.Known != len(nodes) || m.Alive != len(nodes) || len(m.Members) != len(nodes) {
			errs = append(errs, fmt.Errorf("%s sees known=%d alive=%d, want %d of each: %s", observer, m.Known, m.Alive, len(nodes), m))
			continue
		}
		for _, n := range nodes {
			if got, ok := m.Find(n); !ok || got.State != "alive" || !got.Synced || got.Address != n.Addr() {
				errs = append(errs, fmt.Errorf("%s sees %s, want %s alive and synced at %s", observer, m, n, n.Addr()))
			}
		}
	}
	return errors.Join(errs...)
}

// AwaitState waits until each of the observers sees subject in state; no observers means all that run but subject.
func (c *Cluster) AwaitState(d time.Duration, state string, subject *Node, observers ...*Node) {
	c.t.Helper()
	if len(observers) == 0 {
		observers = slices.DeleteFunc(c.Running(), func(n *Node) bool { return n == subject })
	}
	c.Await(d, fmt.Sprintf("%s is %s", subject, state), func() error {
		var errs []error
		for _, o := range observers {
			m, err := o.Members()
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if got, ok := m.Find(subject); !ok || got.State != state {
				errs = append(errs, fmt.Errorf("%s sees %s", o, m))
			}
		}
		return errors.Join(errs...)
	})
}

// AwaitConverged waits until the digests of the nodes are equal; no nodes means all that run.
func (c *Cluster) AwaitConverged(d time.Duration, nodes ...*Node) {
	c.t.Helper()
	if len(nodes) == 0 {
		nodes = c.Running()
	}
	c.Await(d, "equal digests", func() error {
		first, err := nodes[0].Digest()
		if err != nil {
			return err
		}
		for _, n := range nodes[1:] {
			d, err := n.Digest()
			if err != nil {
				return err
			}
			if d.Digest != first.Digest || d.Keys != first.Keys {
				return fmt.Errorf("%s has %d keys, digest %s; %s has %d keys, digest %s",
					nodes[0], first.Keys, first.Digest, n, d.Keys, d.Digest)
			}
		}
		return nil
	})
}
