package membership_test

import (
	"bytes"
	"io"
	"log"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/protocol7/snakes/membership/transport"
)

// keyed are the keys of a node, each of 32 times the byte.
func keyed(keys ...byte) option { return func(n *node) { n.config.Keys = keysOf(keys...) } }

func keysOf(keys ...byte) (all [][]byte) {
	for _, key := range keys {
		all = append(all, bytes.Repeat([]byte{key}, 32))
	}
	return all
}

// intruder is a memberlist program that has nothing to do with ours but the name of the cluster, and perhaps a key.
func intruder(t *testing.T, cluster string, keys ...byte) *memberlist.Memberlist {
	t.Helper()
	tr, err := transport.Listen(transport.Config{Bind: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	config := memberlist.DefaultLocalConfig()
	config.Name, config.Label, config.Transport = randomID(), cluster, tr
	config.AdvertiseAddr, config.AdvertisePort = "127.0.0.1", int(tr.Addr().Port())
	config.BindAddr, config.BindPort = config.AdvertiseAddr, config.AdvertisePort
	config.Logger = log.New(io.Discard, "", 0)
	config.Delegate = &meta{[]byte(`{"n":"intruder","a":"` + tr.Addr().String() + `","s":true,"t":1}`)}
	if len(keys) > 0 {
		config.SecretKey = keysOf(keys...)[0]
	}
	list, err := memberlist.Create(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { list.Shutdown() })
	return list
}

// meta is a delegate that tells who its node is, and hears nothing.
type meta struct{ self []byte }

func (m *meta) NodeMeta(int) []byte           { return m.self }
func (*meta) NotifyMsg([]byte)                {}
func (*meta) GetBroadcasts(int, int) [][]byte { return nil }
func (*meta) LocalState(bool) []byte          { return []byte("{}") }
func (*meta) MergeRemoteState([]byte, bool)   {}

func addresses(nodes ...*node) (all []string) {
	for _, n := range nodes {
		all = append(all, n.address)
	}
	return all
}

func TestGossipWithoutTheKeyIsNeitherHeardNorAnswered(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"), keyed(1))
	b := net.start(t, named("b"), keyed(1), seedsOf(a))
	await(t, "2: a=alive b=alive", a, b)
	for name, list := range map[string]*memberlist.Memberlist{
		"no key": intruder(t, net.cluster), "another key": intruder(t, net.cluster, 2),
	} {
		if n, err := list.Join(addresses(a, b)); n != 0 || err == nil {
			t.Errorf("%s: joined %d nodes, error %v; want none", name, n, err)
		}
		if got := list.NumMembers(); got != 1 {
			t.Errorf("%s: sees %d members, want itself alone", name, got)
		}
	}
	if got := a.picture(); got != "2: a=alive b=alive" {
		t.Errorf("a sees %s, want nobody else", got)
	}
	// The same program with the key shows that it would have got in.
	insider := intruder(t, net.cluster, 1)
	if n, err := insider.Join(addresses(a)); n != 1 || insider.NumMembers() != 3 {
		t.Errorf("with the key: joined %d nodes, sees %d members, error %v; want 1 and 3", n, insider.NumMembers(), err)
	}
	await(t, "2: a=alive b=alive intruder=joining", a, b)
}

func TestNodesOfOtherKeysFormNoCluster(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"), keyed(1))
	for _, other := range []*node{net.start(t, named("b"), keyed(2), seedsOf(a)), net.start(t, named("c"), seedsOf(a))} {
		time.Sleep(6 * pace) // longer than it takes to join, or to found a cluster of one's own
		await(t, "0: "+other.config.Name+"=joining", other)
	}
	await(t, "1: a=alive", a)
}

// Members notice nothing of a rotation whose every step each of them takes when it gets to it, and one that was away
// during a step comes back with the keys of the step before.
func TestKeysAreRotatedWithoutLosingAnybody(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	a := net.start(t, named("a"), keyed(1))
	nodes := []*node{a, net.start(t, named("b"), keyed(1), seedsOf(a)), net.start(t, named("c"), keyed(1), seedsOf(a))}
	const all = "3: a=alive b=alive c=alive"
	await(t, all, nodes...)
	throughout := func(d time.Duration, nodes ...*node) {
		t.Helper()
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			for _, n := range nodes {
				if got := n.picture(); got != all {
					t.Fatalf("%s sees %s, want %s", n.config.Name, got, all)
				}
			}
		}
	}
	for _, step := range [][]byte{{1, 2}, {2, 1}} {
		for _, n := range nodes {
			if err := n.SetKeys(keysOf(step...)); err != nil {
				t.Fatal(err)
			}
			throughout(4*pace, nodes...)
		}
	}
	b := nodes[1]
	b.stop()
	await(t, "3: a=alive b=stopped c=alive", a, nodes[2])
	for _, n := range []*node{a, nodes[2]} {
		if err := n.SetKeys(keysOf(2)); err != nil {
			t.Fatal(err)
		}
	}
	nodes[1] = net.start(t, named("b"), data(b), at(b.address), keyed(2, 1))
	await(t, all, nodes...)
	throughout(12*pace, nodes...) // longer than it takes to fail
	if n, err := intruder(t, net.cluster, 1).Join(addresses(a)); n != 0 {
		t.Errorf("the old key joined %d nodes, error %v; want none", n, err)
	}
}
