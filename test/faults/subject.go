package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
	"github.com/protocol7/snakes/test/cluster"
	"github.com/protocol7/snakes/test/volume"
)

// subject is the cluster that rounds hurt, and what it must have from earlier rounds.
type subject struct {
	*cluster.Cluster
	t      testing.TB
	name   string // of the cluster
	nodes  []endpoint
	rounds int
	has    map[string]found // of all rounds before
	loose  map[string]bool  // keys of has with a write that may still happen
	asides int              // how many times a node has set data aside

	plain   string           // settings of some clients, see clients
	mixed   string           // and of the others
	load    *clients         // of the round under way
	volumes []*volume.Volume // the disks of the nodes, if they have their own
}

// tombstoneAge is as short as it may be, so that nodes forget deletes of one round during the next ones: above it no write is on its
// way any more, see node.Config.TombstoneAge.
const tombstoneAge = "20s"

// soonForgotten is for faults that leave no write on its way: those that end processes, and with them their connections.
var soonForgotten = []string{"--tombstone-age", "1s"}

// newSubject starts a cluster that a fault can hurt. It ends with the test.
func newSubject(t testing.TB, f fault, o cluster.Options) *subject {
	t.Helper()
	o.Nodes, o.Network = members, f.network
	if f.clocks {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		o.Binary, o.Env = self, append(o.Env, programVariable+"=1")
	}
	o.Args = append(o.Args, "--tombstone-age", tombstoneAge, "--checkpoint-size", "1MiB")
	o.Args = append(o.Args, f.args...)
	o.ClusterName = fmt.Sprintf("faults%d-%d", os.Getpid(), time.Now().UnixNano())
	s := &subject{Cluster: cluster.New(t, o), t: t, name: o.ClusterName, plain: "d", mixed: "qqaoo", has: map[string]found{}, loose: map[string]bool{}}
	if f.prepare != nil {
		if err := f.prepare(s, f.mount); err != nil {
			cluster.Missing(t, "this fault lacks %v", err)
		}
	}
	s.Start()
	for _, n := range s.Nodes() {
		s.nodes = append(s.nodes, endpointOf(n))
	}
	return s
}

// countAsides returns how many times the nodes have set data aside, which they do when it turns out to be an old copy.
func (s *subject) countAsides() (number int) {
	for _, n := range s.Nodes() {
		found, _ := filepath.Glob(filepath.Join(n.Data, "aside", "*")) // the pattern is good
		number += len(found)
	}
	return number
}

// settled returns nil when all nodes are ready, see each other alive and have the same.
func (s *subject) settled() error {
	if err := cluster.CheckMembers(s.Nodes()...); err != nil {
		return err
	}
	var first cluster.Digest
	for i, n := range s.Nodes() {
		if err := n.Do(http.MethodGet, "/-/ready", "").Expect(http.StatusOK); err != nil {
			return err
		}
		d, err := n.Digest()
		if err != nil {
			return err
		}
		if i == 0 {
			first = d
		} else if d.Digest != first.Digest || d.Keys != first.Keys {
			return fmt.Errorf("%s has %d keys, digest %s; the first node has %d, digest %s", n, d.Keys, d.Digest, first.Keys, first.Digest)
		}
	}
	return nil
}

// scan returns all that the nodes have, and an error unless each of them has the same, as its digest says, and serves it.
func (s *subject) scan() (map[string]found, error) {
	var all map[string]found
	for i, n := range s.nodes {
		has, err := n.list()
		if err != nil {
			return nil, err
		}
		d, err := s.Node(i).Digest()
		if err != nil {
			return nil, err
		}
		if want := digestOf(has); d.Digest != want || d.Keys != len(has) {
			return nil, fmt.Errorf("%s says digest %s of %d keys, but has %s of %d", s.Node(i), d.Digest, d.Keys, want, len(has))
		}
		if i == 0 {
			all = has
		} else if !maps.EqualFunc(all, has, func(a, b found) bool { return a.Version == b.Version }) {
			return nil, fmt.Errorf("%s has other keys or versions than %s, with the same digest", s.Node(i), s.Node(0))
		}
	}
	return all, nil
}

func digestOf(has map[string]found) string {
	var sum uint64
	for key, f := range has {
		sum ^= replication.DigestOf(key, f.Version)
	}
	return fmt.Sprintf("%016x", sum)
}

// list returns the keys that one node has itself.
func (e endpoint) list() (map[string]found, error) {
	has := map[string]found{}
	for after := ""; ; {
		a := e.ask(http.MethodGet, "/-/keys?r=1&limit=1000&after="+url.QueryEscape(after), "", nil)
		var page struct {
			Keys []struct{ Key, ETag string }
			Next string
		}
		if a.err != nil || a.status != http.StatusOK {
			return nil, fmt.Errorf("list the keys of %s: answer %d %.200q: %w", e.url, a.status, a.body, a.err)
		}
		if err := json.Unmarshal([]byte(a.body), &page); err != nil {
			return nil, fmt.Errorf("list the keys of %s: %w", e.url, err)
		}
		for _, k := range page.Keys {
			v, err := version.Parse(strings.Trim(k.ETag, `"`))
			if err != nil {
				return nil, fmt.Errorf("list the keys of %s: %s: %w", e.url, k.Key, err)
			}
			has[k.Key] = found{Version: v}
		}
		if after = page.Next; after == "" {
			return has, nil
		}
	}
}

// values reads each of the keys that begin with prefix from every node's own disk, and returns what they are.
func (s *subject) values(has map[string]found, prefix string) (map[string]found, error) {
	values := map[string]found{}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(has)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		for i, n := range s.nodes {
			a := n.ask(http.MethodGet, "/"+key+"?r=1", "", nil)
			number, err := numberOf(key, a.body)
			if err = errors.Join(a.err, err); err != nil || a.status != http.StatusOK || a.version != has[key].Version {
				errs = append(errs, fmt.Errorf("%s answers %d for %s at %v, want %v: %w", s.Node(i), a.status, key, a.version, has[key].Version, err))
				continue
			}
			values[key] = found{Version: a.version, Value: number}
		}
	}
	return values, errors.Join(errs...)
}

// remember compares what there is of earlier rounds' keys with what there was, and takes it as what has to be there from now on. The
// history is that of the round that ended.
func (s *subject) remember(has map[string]found, past []operation) []string {
	var wrong []string
	for key, was := range s.has {
		is, there := has[key]
		if (!there || is.Version != was.Version) && !s.loose[key] {
			wrong = append(wrong, fmt.Sprintf("%s was at %v rounds ago and is at %v, though nobody wrote it", key, was.Version, is.Version))
		}
	}
	for key := range has {
		if _, was := s.has[key]; !was && !s.loose[key] && !slices.ContainsFunc(past, func(o operation) bool { return o.Key == key }) {
			wrong = append(wrong, key+" is there again, after it was deleted rounds ago")
		}
	}
	s.has = has
	for _, o := range past {
		if o.Kind != get && o.Outcome == unknown {
			s.loose[o.Key] = true
		}
	}
	return wrong
}

// settleIn waits until the subject is settled and returns when that was, or why it is not.
func (s *subject) settleIn(limit time.Duration) (time.Time, error) {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := s.settled()
		now := time.Now()
		if err == nil || now.Sub(start) > limit {
			return now, err
		}
	}
}
