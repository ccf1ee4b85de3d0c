package node

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/node/events"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// The nodes of these tests.
const (
	idA = "0000000000000000000000000000000a"
	idB = "0000000000000000000000000000000b"
	idC = "0000000000000000000000000000000c"
)

type fakeCoordinator struct {
	put      func(key string, value []byte, contentType string, level replication.Level) (replication.Receipt, error)
	delete   func(key string, level replication.Level) (replication.Receipt, error)
	get      func(key string, level replication.Level) (replication.Record, replication.Receipt, error)
	inspect  func(key string) (replication.Inspection, error)
	list     func(span replication.Span, level replication.Level) (replication.Listing, replication.Receipt, error)
	backup   func() (*replication.Backup, replication.Receipt, error)
	restore  func(options replication.RestoreOptions) (*replication.Restore, error)
	writable func() error
}

func (f *fakeCoordinator) Put(_ context.Context, key string, value []byte, contentType string, level replication.Level) (replication.Receipt, error) {
	return f.put(key, value, contentType, level)
}

func (f *fakeCoordinator) Delete(_ context.Context, key string, level replication.Level) (replication.Receipt, error) {
	return f.delete(key, level)
}

func (f *fakeCoordinator) Get(_ context.Context, key string, level replication.Level) (replication.Record, replication.Receipt, error) {
	return f.get(key, level)
}

func (f *fakeCoordinator) Inspect(_ context.Context, key string) (replication.Inspection, error) {
	return f.inspect(key)
}

func (f *fakeCoordinator) List(_ context.Context, span replication.Span, level replication.Level) (replication.Listing, replication.Receipt, error) {
	return f.list(span, level)
}

func (f *fakeCoordinator) Backup(context.Context) (*replication.Backup, replication.Receipt, error) {
	return f.backup()
}

func (f *fakeCoordinator) Restore(options replication.RestoreOptions) (*replication.Restore, error) {
	return f.restore(options)
}

func (f *fakeCoordinator) Writable() error {
	if f.writable == nil {
		return nil
	}
	return f.writable()
}

type fakeCluster struct {
	snapshot *membership.Snapshot
	forget   func(nameOrID string, force bool) error
}

func (f *fakeCluster) Snapshot() *membership.Snapshot { return f.snapshot }

func (f *fakeCluster) Forget(_ context.Context, nameOrID string, force bool) error {
	return f.forget(nameOrID, force)
}

type fakeMonitor struct {
	peers map[string]replication.PeerStatus
	skew  error
}

func (f *fakeMonitor) Peer(id string) (replication.PeerStatus, bool) {
	status, known := f.peers[id]
	return status, known
}

func (f *fakeMonitor) Skew() error { return f.skew }

type fakeStore struct {
	keys       int
	tombstones int
	digest     uint64
	seen       *seen.Set
	writable   error
	stats      disk.Stats
}

func (f *fakeStore) Stats() disk.Stats { return f.stats }
func (f *fakeStore) Space() disk.Room  { return disk.Room{Free: 7 << 30, Size: 9 << 30} }

func (f *fakeStore) TombstoneCount() int { return f.tombstones }
func (f *fakeStore) Len() int            { return f.keys }
func (f *fakeStore) Digest() uint64      { return f.digest }
func (f *fakeStore) Seen() *seen.Set     { return f.seen.Clone() }
func (f *fakeStore) Writable() error     { return f.writable }

type fakeReplica struct {
	write  func(records []replication.Record) []replication.Outcome
	lookup func(key string) (replication.Meta, error)
	fetch  func(key string) (replication.Record, error)
	status func(from string, theirs replication.Status) replication.Status

	buckets  func() []uint64
	contents func(buckets []int) []replication.Held
	span     func(span replication.Span) (replication.Stretch, error)
	watch    func(prefix string, from *seen.Set) (*replication.Watch, error)
}

func (f *fakeReplica) Write(records []replication.Record) []replication.Outcome {
	return f.write(records)
}

func (f *fakeReplica) Lookup(key string) (replication.Meta, error) { return f.lookup(key) }

func (f *fakeReplica) Fetch(key string) (replication.Record, error) { return f.fetch(key) }

func (f *fakeReplica) Buckets() []uint64 { return f.buckets() }

func (f *fakeReplica) Contents(buckets []int) []replication.Held { return f.contents(buckets) }

func (f *fakeReplica) Watch(prefix string, from *seen.Set) (*replication.Watch, error) {
	return f.watch(prefix, from)
}

func (f *fakeReplica) Range(span replication.Span) (replication.Stretch, error) { return f.span(span) }

func (f *fakeReplica) Status(from string, theirs replication.Status) replication.Status {
	return f.status(from, theirs)
}

type fakeOffers struct {
	open func(from string, theirs *seen.Set) (replication.Pull, error)
	page func(pull, from uint64) (replication.Page, error)
}

func (f *fakeOffers) OpenPull(from string, theirs *seen.Set) (replication.Pull, error) {
	return f.open(from, theirs)
}

func (f *fakeOffers) NextPage(pull, from uint64) (replication.Page, error) { return f.page(pull, from) }

type fakeSyncer replication.SyncProgress

func (f fakeSyncer) Progress() replication.SyncProgress { return replication.SyncProgress(f) }

type fakeCollector map[string]uint64

func (f fakeCollector) Stats() replication.CollectorStats {
	return replication.CollectorStats{Blocked: f}
}

type fakeOperations struct {
	leave, acceptLoss, drain, undrain func() error
}

func (f *fakeOperations) Drain() error   { return f.drain() }
func (f *fakeOperations) Undrain() error { return f.undrain() }

func (f *fakeOperations) Leave() error      { return f.leave() }
func (f *fakeOperations) AcceptLoss() error { return f.acceptLoss() }

type fakeRoster struct {
	stamp   func() string
	admit   func(hello membership.Hello) error
	consent func(hello membership.Hello, message []byte) ([]byte, error)
	merge   func(state []byte) error
}

func (f *fakeRoster) Stamp() string {
	if f.stamp == nil {
		return "s1"
	}
	return f.stamp()
}

func (f *fakeRoster) State() []byte { return []byte("state of " + f.Stamp()) }

func (f *fakeRoster) Merge(state []byte) error { return f.merge(state) }

func (f *fakeRoster) Admit(_ context.Context, hello membership.Hello) error {
	if f.admit == nil {
		return nil
	}
	return f.admit(hello)
}

func (f *fakeRoster) Consent(_ context.Context, hello membership.Hello, message []byte) ([]byte, error) {
	return f.consent(hello, message)
}

// someVersion returns a version of a fixed time, the n-th of one origin.
func someVersion(n uint64) version.Version {
	return version.Version{
		Timestamp: version.Timestamp{Wall: time.Date(2026, 11, 22, 12, 0, 0, 123, time.UTC).UnixNano()},
		Dot:       version.Dot{Origin: 0xabc, Counter: n},
	}
}

// fakes is a node A in a cluster of A and B, in which everything succeeds, in memory.
func fakes() (apiConfig, *fakeCoordinator) {
	coordinator := &fakeCoordinator{
		put: func(string, []byte, string, replication.Level) (replication.Receipt, error) {
			return replication.Receipt{Version: someVersion(7), Acks: 2, N: 3, Missing: []string{"node-c"}}, nil
		},
		delete: func(string, replication.Level) (replication.Receipt, error) {
			return replication.Receipt{Version: someVersion(7), Acks: 3, N: 3}, nil
		},
		get: func(key string, _ replication.Level) (replication.Record, replication.Receipt, error) {
			if key != "foo" {
				return replication.Record{}, replication.Receipt{Acks: 3, N: 3}, replication.ErrNotFound
			}
			return replication.Record{Key: key, Version: someVersion(7), ContentType: "image/png", Value: []byte("some value")},
				replication.Receipt{Version: someVersion(7), Acks: 3, N: 3}, nil
		},
		backup: func() (*replication.Backup, replication.Receipt, error) {
			return nil, replication.Receipt{}, replication.ErrNotReady
		},
		restore: func(replication.RestoreOptions) (*replication.Restore, error) { return nil, replication.ErrNotReady },
	}
	return apiConfig{
		Self: idA, Name: "node-a", MaxValue: 1 << 20, Events: events.New(), Origin: 0xa,
		Coordinator: coordinator,
		Cluster: &fakeCluster{snapshot: &membership.Snapshot{
			Cluster: "snakes", ClusterID: "c1", Self: idA, Rosters: [][]string{{idA, idB}},
			Members: []membership.Member{
				{ID: idA, Name: "node-a", Address: "127.0.0.1:9000", State: membership.Alive, Counted: true, Live: true, Synced: true},
				{ID: idB, Name: "node-b", Address: "127.0.0.1:9001", State: membership.Alive, Counted: true, Live: true, Synced: true},
			},
		}},
		Monitor: &fakeMonitor{},
		Store:   &fakeStore{seen: new(seen.Set)},
		Syncer:  fakeSyncer{}, Collector: fakeCollector{}, Operations: &fakeOperations{},
		Replica: &fakeReplica{}, Roster: &fakeRoster{}, Clock: version.NewClock(nil, version.Timestamp{}),
	}, coordinator
}

// testNode is an API behind a real socket.
type testNode struct {
	t       *testing.T
	address string
	client  *http.Client
}

// start serves config until the end of the test, and then looks for goroutines left over.
func start(t *testing.T, config apiConfig) *testNode {
	t.Helper()
	return startAPI(t, config, newAPI(config))
}

// startAPI is start with the API that was made of config.
func startAPI(t *testing.T, config apiConfig, a *api) *testNode {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	server := httptest.NewUnstartedServer(nil)
	server.Config = newServer(a, config.Log)
	server.Start()
	t.Cleanup(server.Close)
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &testNode{t: t, address: server.Listener.Addr().String(), client: client}
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	text string
}

// problem reads the answer's body as problem+json and fails the test unless it is one in
// every respect that all have in common.
func (a answer) problem(t *testing.T) map[string]any {
	t.Helper()
	if got, want := a.Header.Get("Content-Type"), "application/problem+json"; got != want {
		t.Fatalf("content type: got %q, want %q; body %q", got, want, a.text)
	}
	if !strings.HasSuffix(a.text, "}\n") || strings.Count(a.text, "\n") != 1 {
		t.Errorf("problem: got %q, want one line", a.text)
	}
	var p map[string]any
	if err := json.Unmarshal([]byte(a.text), &p); err != nil {
		t.Fatalf("problem: %v in %q", err, a.text)
	}
	for _, field := range []string{"type", "title", "detail"} {
		if text, _ := p[field].(string); text == "" {
			t.Errorf("problem has no %s: %s", field, a.text)
		}
	}
	if got, want := p["status"], float64(a.StatusCode); got != want {
		t.Errorf("status in problem: got %v, want %v", got, want)
	}
	if got, want := p["node"], "node-a"; got != want {
		t.Errorf("node in problem: got %v, want %v", got, want)
	}
	if got, want := p["request_id"], a.Header.Get("X-Request-Id"); got != want || got == "" {
		t.Errorf("request_id in problem: got %q, want %q as in the header", got, want)
	}
	return p
}

// code returns the code of the problem that the answer is, empty for an answer below 400.
func (a answer) code(t *testing.T) string {
	t.Helper()
	if a.StatusCode < 400 {
		return ""
	}
	kind, _ := a.problem(t)["type"].(string)
	code, found := strings.CutPrefix(kind, "urn:snakes:error:")
	if !found {
		t.Errorf("problem type: got %q, want a urn:snakes:error", kind)
	}
	return code
}

// ask sends a request; headers are pairs of name and value.
func (n *testNode) ask(method, path, body string, headers ...string) answer {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), method, "http://"+n.address+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := n.client.Do(r)
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	return n.read(resp)
}

func (n *testNode) read(resp *http.Response) answer {
	n.t.Helper()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatalf("read answer: %v", err)
	}
	return answer{resp, string(text)}
}

// dial returns a connection for requests that no client library would send.
func (n *testNode) dial() *rawConn {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.address)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return &rawConn{conn.(*net.TCPConn), n, bufio.NewReader(conn)}
}

type rawConn struct {
	*net.TCPConn
	n      *testNode
	reader *bufio.Reader
}

func (c *rawConn) send(text string) {
	c.n.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.n.t.Fatalf("send: %v", err)
	}
}

// answer reads the answer to a request of the given method.
func (c *rawConn) answer(method string) answer {
	c.n.t.Helper()
	resp, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		c.n.t.Fatalf("read answer: %v", err)
	}
	return c.n.read(resp)
}

// raw sends the head of a request, line by line, and returns the answer.
func (n *testNode) raw(requestLine string, headers ...string) answer {
	n.t.Helper()
	c := n.dial()
	c.send(requestLine + "\r\nHost: x\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n")
	method, _, _ := strings.Cut(requestLine, " ")
	return c.answer(method)
}
