package replication_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble returns f as a function that runs it in a synctest bubble, each time in the same one: a
// process that uses the race detector has room for a few thousand bubbles only. What f is given
// and returns must come from outside and stay alive outside, and all that it started must have
// ended when it returns.
func bubble[In, Out any](t *testing.T, f func(t *testing.T, in In) Out) func(In) Out {
	ins, outs := make(chan In), make(chan Out)
	var running sync.WaitGroup
	running.Go(func() {
		defer close(outs)
		synctest.Test(t, func(t *testing.T) {
			for in := range ins {
				outs <- f(t, in)
			}
		})
	})
	t.Cleanup(func() { close(ins); running.Wait() })
	return func(in In) Out {
		ins <- in
		out, ok := <-outs
		if !ok {
			t.Fatal("the bubble has ended")
		}
		return out
	}
}

// cluster is some nodes in memory, called a, b, c, ...: their ids, and node-a, ... their names.
type cluster map[string]*node

// node is one of them. What others get from it goes through net, so that a test can spoil it.
type node struct {
	id      string
	with    setup
	store   *storetest.Memory
	clock   *version.Clock
	members *members
	peers   *peers
	state   states
	// goneBack are the reasons that monitors gave for taking the node's data for an old copy.
	goneBack reasons

	mu sync.Mutex // guards the fields below against start, which the test's goroutine calls
	*replication.Coordinator
	offers *replication.Offers
	memory *replication.Memory
	origin uint64
}

// reasons are errors that were reported. The zero reasons is empty and ready to use.
type reasons struct {
	mu   sync.Mutex
	errs []error
}

func (r *reasons) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

func (r *reasons) all() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.errs)
}

// states is a replication.State in memory. The zero states is empty and ready to use.
type states struct {
	mu     sync.Mutex // guards the fields below
	pieces map[string][]byte
	saves  int   // that there were
	fault  error // of every save
}

func (s *states) LoadState(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	piece, exists := s.pieces[name]
	if !exists {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(piece), nil
}

func (s *states) SaveState(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return s.fault
	}
	if s.pieces == nil {
		s.pieces = make(map[string][]byte)
	}
	s.saves++
	s.pieces[name] = slices.Clone(data)
	return nil
}

func (s *states) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
}

func (s *states) saved() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saves
}

// link is what becomes of a call to a node: nil answers it, else an error or a long wait.
type link func(ctx context.Context) error

var errRefused = errors.New("connection refused")

// soon is after everything that takes no time.
const soon = time.Millisecond

func refuses(ctx context.Context) error {
	if err := takes(soon)(ctx); err != nil {
		return err
	}
	return errRefused
}

func freezes(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func takes(d time.Duration) link {
	return func(ctx context.Context) error {
		if d <= 0 {
			// Timers that are due at once crash the race detector when two goroutines of a bubble
			// run theirs at the same time.
			return ctx.Err()
		}
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// setup changes how a cluster is made, before it is.
type setup struct {
	// store, unless nil, wraps a node's store.
	store func(id string, s replication.Store, c *version.Clock) replication.Store
	// skew is how far a node's wall clock is ahead.
	skew map[string]time.Duration
	// pageBytes and pageRecords are the size of a page, 0 for the default.
	pageBytes, pageRecords int
	// blank are the nodes that were never synced.
	blank string
}

// clusterID is the id of all clusters of these tests.
const clusterID = "c1"

// newCluster returns nodes that all know each other, live and synced, in one roster. They are
// closed at the end of the test.
func newCluster(t testing.TB, ids string, with setup) cluster {
	t.Helper()
	cl := make(cluster)
	for i, id := range strings.Split(ids, "") {
		n := &node{
			id: id, with: with, store: new(storetest.Memory), members: newMembers(id, ids), origin: uint64(i + 1),
		}
		n.clock = version.NewClock(n.now, version.Timestamp{})
		n.peers = &peers{self: n, cluster: cl, links: make(map[string]link)}
		if !strings.Contains(with.blank, id) {
			_ = n.state.SaveState("synced", []byte(clusterID+" "+id)) // it does not fail
		}
		n.start(t)
		cl[id] = n
	}
	t.Cleanup(cl.close)
	return cl
}

func (n *node) now() time.Time { return time.Now().Add(n.with.skew[n.id]) }

// start starts the process of a node, again if it had one: what its store holds is still there,
// and the new process draws another origin.
func (n *node) start(t testing.TB) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	var store replication.Store = n.store
	if n.with.store != nil {
		store = n.with.store(n.id, store, n.clock)
	}
	if n.Coordinator != nil {
		n.origin += 100
	}
	memory, err := replication.OpenMemory(&n.state, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := replication.New(replication.Config{
		Store: store, Members: n.members, Peers: n.peers, Clock: n.clock, Origin: n.origin, Memory: memory, Now: n.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	offers, err := replication.NewOffers(replication.OffersConfig{
		Store: store, Members: n.members, PageBytes: n.with.pageBytes, PageRecords: n.with.pageRecords,
		Collected: memory.Collected,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Coordinator, n.offers, n.memory = c, offers, memory
}

// answers returns what answers the requests of peers now.
func (n *node) answers() (*replication.Replica, *replication.Offers) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.Replica(), n.offers
}

func (cl cluster) close() {
	for _, n := range cl {
		n.Close()
	}
}

// put stores a record at one node behind the backs of all coordinators.
func (cl cluster) put(t testing.TB, id string, r replication.Record) {
	t.Helper()
	if out := cl[id].store.Apply([]replication.Record{r}); out[0].Err != nil {
		t.Fatal(out[0].Err)
	}
}

// spoil makes all nodes' calls to id go through l.
func (cl cluster) spoil(id string, l link) {
	for _, n := range cl {
		n.peers.set(id, l)
	}
}

// holds returns what a node's store has under key: its value, "gone", "damaged" or "nothing".
func (n *node) holds(key string) string {
	r, err := n.store.Get(key)
	switch {
	case errors.Is(err, replication.ErrNotFound):
		return "nothing"
	case errors.Is(err, replication.ErrDamaged):
		return "damaged"
	case err != nil:
		return err.Error()
	case r.Deleted:
		return "gone"
	}
	return string(r.Value)
}

func (cl cluster) wantHeld(t testing.TB, key, want string, ids string) {
	t.Helper()
	for _, id := range strings.Split(ids, "") {
		if got := cl[id].holds(key); got != want {
			t.Errorf("node %s holds %s under %s, want %s", id, got, key, want)
		}
	}
}

// at returns a version of an origin that no node has, from some seconds after 2000, the start
// of time in a synctest bubble.
func at(seconds int) version.Version {
	return version.Version{
		Timestamp: version.Timestamp{Wall: time.Date(2000, 1, 1, 0, 0, seconds, 0, time.UTC).UnixNano()},
		Dot:       version.Dot{Origin: 99, Counter: uint64(1000 + seconds)},
	}
}

func record(key, value string, v version.Version) replication.Record {
	return replication.Record{Key: key, Version: v, ContentType: "text/plain", Value: []byte(value)}
}

func tombstone(key string, v version.Version) replication.Record {
	return replication.Record{Key: key, Version: v, Deleted: true}
}

// members is what one node knows of the cluster. It takes who fails for not live and who
// answers for live.
type members struct {
	mu   sync.Mutex // guards the fields below
	view *replication.View
	log  []string // "b: why" per failure reported
	// enroll, unless nil, is called by Enroll.
	enroll func(id string) error
}

func newMembers(self, ids string) *members {
	m := &members{view: &replication.View{Self: self, Cluster: clusterID, Rosters: [][]string{strings.Split(ids, "")}}}
	for _, id := range strings.Split(ids, "") {
		m.view.Members = append(m.view.Members, replication.Member{ID: id, Name: "node-" + id, Live: true, Synced: true})
	}
	return m
}

// change replaces the view by a changed copy.
func (m *members) change(change func(v *replication.View)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	view := &replication.View{Self: m.view.Self, Cluster: m.view.Cluster, Members: slices.Clone(m.view.Members), Rosters: m.view.Rosters}
	change(view)
	m.view = view
}

func (m *members) changeMember(id string, change func(m *replication.Member)) {
	m.change(func(v *replication.View) {
		for i := range v.Members {
			if v.Members[i].ID == id {
				change(&v.Members[i])
			}
		}
	})
}

func (m *members) live(id string, live bool) {
	m.changeMember(id, func(m *replication.Member) { m.Live = live })
}

func (m *members) synced(id string, synced bool) {
	m.changeMember(id, func(m *replication.Member) { m.Synced = synced })
}

func (m *members) draining(ids ...string) {
	for _, id := range ids {
		m.changeMember(id, func(m *replication.Member) { m.Draining = true })
	}
}

func (m *members) rosters(rosters ...string) {
	m.change(func(v *replication.View) {
		v.Rosters = nil
		for _, roster := range rosters {
			v.Rosters = append(v.Rosters, strings.Split(roster, ""))
		}
	})
}

func (m *members) View() *replication.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view
}

func (m *members) Failed(id string, _ time.Time, err error) {
	m.live(id, false)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, fmt.Sprintf("%s: %v", id, err))
}

func (m *members) Answered(id string) {
	if known, _ := m.View().Member(id); !known.Live {
		m.live(id, true)
	}
}

func (m *members) Enroll(id string) error {
	if m.enroll != nil {
		return m.enroll(id)
	}
	return nil
}

func (m *members) failures() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log)
}

// peers carries one node's calls to the others.
type peers struct {
	self    *node
	cluster cluster

	mu    sync.Mutex // guards the fields below
	links map[string]link
	calls []string // "write b", "lookup c", ...

	// Unless nil these replace what the node would answer.
	write func(id string, records []replication.Record) []replication.Outcome
	fetch func(id, key string) (replication.Record, error)
	open  func(id string, mine *seen.Set) (replication.Pull, error)
	page  func(id string, pull, from uint64) (replication.Page, error)
	// stretch, unless nil, changes what a node tells of a span of keys.
	stretch func(id string, found replication.Stretch) replication.Stretch
	// recalled, unless nil, changes what the node is told that it told.
	recalled func(*seen.Set) *seen.Set
	// lost, unless nil, is asked what becomes of each answer of a node to what: nil delivers it.
	lost func(ctx context.Context, what, id string) error
	// answers, unless nil, reports whether a node has answered other calls since then.
	answers func(id string, since time.Time) bool
	// answered, unless nil, is called after each answer of a node to what.
	answered func(what, id string)
}

func (p *peers) set(id string, l link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[id] = l
}

func (p *peers) called() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// reach goes to the node, or not.
func (p *peers) reach(ctx context.Context, what, id string) (*replication.Replica, error) {
	p.mu.Lock()
	p.calls = append(p.calls, what+" "+id)
	l := p.links[id]
	p.mu.Unlock()
	if l != nil {
		if err := l(ctx); err != nil {
			return nil, fmt.Errorf("%s to %s: %w", what, id, err)
		}
	}
	replica, _ := p.cluster[id].answers()
	return replica, ctx.Err()
}

// comes returns nil if an answer with the given error comes through, or why not.
func (p *peers) comes(ctx context.Context, what, id string, err error) error {
	if p.lost == nil {
		return err
	}
	return cmp.Or(p.lost(ctx, what, id), err)
}

func (p *peers) after(what, id string, heard version.Timestamp) {
	p.self.clock.Observe(heard)
	if p.answered != nil {
		p.answered(what, id)
	}
}

func (p *peers) Write(ctx context.Context, id string, records []replication.Record) ([]replication.Outcome, error) {
	replica, err := p.reach(ctx, "write", id)
	if err != nil {
		return nil, err
	}
	write := replica.Write
	if p.write != nil {
		write = func(records []replication.Record) []replication.Outcome { return p.write(id, records) }
	}
	outcomes := write(records)
	for _, o := range outcomes {
		p.after("write", id, o.Current.Version.Timestamp)
	}
	return outcomes, p.comes(ctx, "write", id, nil)
}

func (p *peers) Lookup(ctx context.Context, id, key string) (replication.Meta, error) {
	replica, err := p.reach(ctx, "lookup", id)
	if err != nil {
		return replication.Meta{}, err
	}
	held, err := replica.Lookup(key)
	p.after("lookup", id, held.Version.Timestamp)
	return held, err
}

func (p *peers) Silent(id string, since time.Time) bool {
	return p.answers == nil || !p.answers(id, since)
}

func (p *peers) Fetch(ctx context.Context, id, key string) (replication.Record, error) {
	replica, err := p.reach(ctx, "fetch", id)
	if err != nil {
		return replication.Record{}, err
	}
	fetch := replica.Fetch
	if p.fetch != nil {
		fetch = func(key string) (replication.Record, error) { return p.fetch(id, key) }
	}
	r, err := fetch(key)
	p.after("fetch", id, r.Version.Timestamp)
	return r, err
}

func (p *peers) Exchange(ctx context.Context, id string, mine replication.Status) (replication.Status, error) {
	replica, err := p.reach(ctx, "exchange", id)
	if err != nil {
		return replication.Status{}, err
	}
	status := replica.Status(p.self.id, mine)
	if p.recalled != nil && status.Recalled != nil {
		status.Recalled = p.recalled(status.Recalled)
	}
	p.after("exchange", id, version.Timestamp{}) // the clock is what the exchange is about
	return status, p.comes(ctx, "exchange", id, nil)
}

func (p *peers) Buckets(ctx context.Context, id string) ([]uint64, error) {
	replica, err := p.reach(ctx, "buckets", id)
	if err != nil {
		return nil, err
	}
	return replica.Buckets(), p.comes(ctx, "buckets", id, nil)
}

func (p *peers) Contents(ctx context.Context, id string, buckets []int) ([]replication.Held, error) {
	replica, err := p.reach(ctx, "contents", id)
	if err != nil {
		return nil, err
	}
	return replica.Contents(buckets), p.comes(ctx, "contents", id, nil)
}

func (p *peers) Range(ctx context.Context, id string, span replication.Span) (replication.Stretch, error) {
	replica, err := p.reach(ctx, "range", id)
	if err != nil {
		return replication.Stretch{}, err
	}
	stretch, err := replica.Range(span)
	if p.stretch != nil {
		stretch = p.stretch(id, stretch)
	}
	return stretch, p.comes(ctx, "range", id, err)
}

func (p *peers) OpenPull(ctx context.Context, id string, mine *seen.Set) (replication.Pull, error) {
	if _, err := p.reach(ctx, "open", id); err != nil {
		return replication.Pull{}, err
	}
	open := p.offered
	if p.open != nil {
		open = p.open
	}
	pull, err := open(id, mine)
	p.after("open", id, version.Timestamp{})
	return pull, p.comes(ctx, "open", id, err)
}

// offered is what the node itself answers to an OpenPull.
func (p *peers) offered(id string, mine *seen.Set) (replication.Pull, error) {
	_, offers := p.cluster[id].answers()
	return offers.OpenPull(p.self.id, mine)
}

func (p *peers) NextPage(ctx context.Context, id string, pull, from uint64) (replication.Page, error) {
	if _, err := p.reach(ctx, "page", id); err != nil {
		return replication.Page{}, err
	}
	next := p.paged
	if p.page != nil {
		next = p.page
	}
	page, err := next(id, pull, from)
	p.after("page", id, version.Timestamp{})
	return page, p.comes(ctx, "page", id, err)
}

// paged is what the node itself answers to a NextPage.
func (p *peers) paged(id string, pull, from uint64) (replication.Page, error) {
	_, offers := p.cluster[id].answers()
	return offers.NextPage(pull, from)
}

// wantReceipt checks a receipt in the form of the header that users see.
func wantReceipt(t testing.TB, got replication.Receipt, want string) {
	t.Helper()
	text := fmt.Sprintf("%d/%d", got.Acks, got.N)
	if len(got.Missing) > 0 {
		text += " missing " + strings.Join(got.Missing, ",")
	}
	if text != want {
		t.Errorf("receipt: got %s, want %s", text, want)
	}
}

// wantMissed checks that err is a quorum error with these numbers.
func wantMissed(t testing.TB, err error, want string) *replication.QuorumError {
	t.Helper()
	var missed *replication.QuorumError
	if !errors.As(err, &missed) {
		t.Fatalf("got error %v, want a quorum error: %s", err, want)
	}
	got := fmt.Sprintf("need %d, alive %d, known %d, acks %d, written %s",
		missed.Need, missed.Alive, missed.Known, missed.Acks, missed.Written)
	if got != want {
		t.Errorf("quorum error: got %s, want %s\n%v", got, want, err)
	}
	return missed
}
