package membership_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/membership/transport"
)

func TestMain(m *testing.M) {
	// memberlist ends a probe under way only when it times out, after its Shutdown has returned.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probe"))
}

// pace makes the tests' clusters five times as quick as real ones.
const pace = 200 * time.Millisecond

// network carries the messages of Link between memberships in one process and can be cut.
type network struct {
	// cluster is the name of its clusters: parallel tests reuse each other's ports.
	cluster string

	mu    sync.Mutex // guards all below
	nodes map[string]*node
	cut   map[string]int            // side by address; different sides do not hear each other
	lost  func(message string) bool // messages of Link that get no answer
}

// node is one membership with what its disk holds.
type node struct {
	*membership.Membership
	t       *testing.T
	net     *network
	id      string
	address string
	config  membership.Config
	disk    *disk
	dead    atomic.Bool
	close   func()
}

// disk is a Storage in memory.
type disk struct {
	mu     sync.Mutex // guards values and fault
	values map[string][]byte
	fault  error
}

// fail makes all saves fail with err, nil none.
func (d *disk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = err
}

func (d *disk) LoadState(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if value, saved := d.values[name]; saved {
		return value, nil
	}
	return nil, fs.ErrNotExist
}

func (d *disk) SaveState(name string, value []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault == nil {
		d.values[name] = slices.Clone(value)
	}
	return d.fault
}

func (d *disk) copy() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &disk{values: maps.Clone(d.values)}
}

func newNetwork() *network {
	return &network{cluster: "test-" + randomID(), nodes: make(map[string]*node), cut: make(map[string]int)}
}

func (n *network) connected(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[a] == n.cut[b]
}

func (n *network) split(side ...*node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range side {
		n.cut[node.address] = 1
	}
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

// lose makes messages of Link get lost for which which returns true.
func (n *network) lose(which func(message string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = which
}

// link is the Link of the node at address from.
type link struct {
	net  *network
	from *node
}

func (l link) Consent(ctx context.Context, id, address string, message []byte) ([]byte, error) {
	if l.from.dead.Load() {
		return nil, errors.New("a dead process says nothing")
	}
	if !l.net.connected(l.from.address, address) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	l.net.mu.Lock()
	to, lost := l.net.nodes[address], l.net.lost
	l.net.mu.Unlock()
	if lost != nil && lost(string(message)) {
		return nil, errors.New("message lost")
	}
	if to == nil || to.id != id {
		return nil, errors.New("connection refused")
	}
	answer, err := to.Consent(ctx, l.from.hello(), message)
	l.from.Refused(err)
	return answer, err
}

func (n *node) hello() membership.Hello {
	return membership.Hello{ID: n.id, ClusterID: n.Snapshot().ClusterID, Address: n.address, Origin: n.config.Origin}
}

type option func(*node)

func named(name string) option { return func(n *node) { n.config.Name = name } }
func seeds(addresses ...string) option {
	return func(n *node) { n.config.Seeds = addresses }
}
func data(of *node) option       { return func(n *node) { n.id, n.disk = of.id, of.disk } }
func copied(of *node) option     { return func(n *node) { n.id, n.disk = of.id, of.disk.copy() } }
func at(address string) option   { return func(n *node) { n.address = address } }
func cluster(name string) option { return func(n *node) { n.config.Cluster = name } }
func unsynced() option           { return func(n *node) { n.config.Version = "unsynced" } }
func seedsOf(nodes ...*node) option {
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.address)
	}
	return seeds(addresses...)
}

// sync has the node say that it is synced whenever it is not, as a member too, until ended.
func (n *node) sync(ended chan struct{}) {
	for n.config.Version != "unsynced" {
		if me, _ := n.Snapshot().Member(n.id); !me.Synced {
			n.SetSynced(true)
		}
		select {
		case <-ended:
			return
		case <-time.After(5 * time.Millisecond): // between two looks
		}
	}
}

// start runs a node until the test ends or it is stopped or killed.
func (net *network) start(t *testing.T, options ...option) *node {
	t.Helper()
	n := &node{t: t, net: net, id: randomID(), disk: &disk{values: map[string][]byte{}}}
	n.config = membership.Config{
		Origin: rand.Uint64() | 1, Cluster: net.cluster, Version: "test", Pace: pace,
		RejoinEvery: 4 * pace, FoundAfter: 4 * pace, SettleFor: pace,
	}
	n.address = "127.0.0.1:0"
	for _, option := range options {
		option(n)
	}
	var listening atomic.Bool // strays of other tests may come before the address is known
	tr, err := transport.Listen(transport.Config{Bind: n.address, Allow: func(remote netip.AddrPort) bool {
		return listening.Load() && n.hears(remote)
	}})
	if err != nil {
		t.Fatal(err)
	}
	n.address = tr.Addr().String()
	listening.Store(true)
	if n.config.Name == "" {
		n.config.Name = "node-" + n.address[len("127.0.0.1:"):]
	}
	n.config.ID, n.config.Address, n.config.Transport = n.id, n.address, tr
	n.config.Storage, n.config.Link = n.disk, link{net, n}
	if testing.Verbose() && n.config.Logger == nil {
		n.config.Logger = hclog.New(&hclog.LoggerOptions{Name: n.config.Name, Level: hclog.Info, Output: logTo{t}})
	}
	if n.Membership, err = membership.New(n.config); err != nil {
		tr.Close()
		t.Fatal(err)
	}
	net.mu.Lock()
	net.nodes[n.address] = n
	net.mu.Unlock()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var syncing sync.WaitGroup
	syncing.Go(func() { n.sync(ended) })
	n.close = sync.OnceFunc(func() {
		close(ended)
		syncing.Wait()
		net.mu.Lock()
		delete(net.nodes, n.address)
		net.mu.Unlock()
		tr.Close()
		n.Stop()
	})
	t.Cleanup(n.close)
	return n
}

// reopen makes a membership of a stopped node's data for a cluster of another name.
func (n *node) reopen(cluster string) (*membership.Membership, error) {
	config := n.config
	config.Cluster = cluster
	return membership.New(config)
}

// logTo writes log lines to a test.
type logTo struct{ t *testing.T }

func (l logTo) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// hears is the node's side of a cut for gossip: remote is where it comes from or goes to.
func (n *node) hears(remote netip.AddrPort) bool {
	n.net.mu.Lock()
	_, listens := n.net.nodes[remote.String()]
	n.net.mu.Unlock()
	return !listens || n.net.connected(n.address, remote.String())
}

// kill ends the node without a word to anybody.
func (n *node) kill() {
	n.dead.Store(true)
	n.Refused(membership.ErrTwin) // who ends for that reason says no goodbye, also in gossip under way
	n.close()
}

// stop ends it in good order.
func (n *node) stop() {
	n.Stop()
	n.close()
}

func randomID() string {
	b := make([]byte, 16)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return hex.EncodeToString(b)
}

// picture shows how a node sees the cluster: "3: a=alive b=failed c=alive".
func (n *node) picture() string {
	s := n.Snapshot()
	known := 0
	if s.Joined() {
		known = len(s.Rosters[0])
	}
	var members []string
	for _, m := range s.Members {
		members = append(members, m.Name+"="+string(m.State))
	}
	slices.Sort(members)
	return fmt.Sprintf("%d: %s", known, strings.Join(members, " "))
}

// await waits until the picture of each node is want.
func await(t *testing.T, want string, nodes ...*node) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for _, n := range nodes {
		for n.picture() != want {
			if time.Now().After(deadline) {
				t.Fatalf("%s sees %q, want %q", n.config.Name, n.picture(), want)
			}
			time.Sleep(5 * time.Millisecond) // between two looks
		}
	}
}

// sameCluster fails the test if not all nodes go by one roster.
func sameCluster(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes[1:] {
		if got, want := n.Stamp(), nodes[0].Stamp(); got != want {
			t.Errorf("%s goes by roster %s, %s by %s", n.config.Name, got, nodes[0].config.Name, want)
		}
	}
}
