package node

import (
	stdcmp "cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// fakeNews is the roster of the asking node.
type fakeNews struct {
	stamp string
	fails error

	mu      sync.Mutex // guards all below
	merged  []string
	refused []error
}

func (f *fakeNews) Stamp() string { return f.stamp }

func (f *fakeNews) State() []byte { return []byte("state of " + f.stamp) }

func (f *fakeNews) Merge(state []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.merged = append(f.merged, string(state))
	return f.fails
}

func (f *fakeNews) Refused(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = append(f.refused, err)
}

// pair is node A, which asks, and node B, which answers.
type pair struct {
	asking  *peers
	news    *fakeNews
	clock   *version.Clock
	replica *fakeReplica
	roster  *fakeRoster
	offers  *fakeOffers
	address string // of B
}

// asker returns the asking side of node A, to which B is known under address.
func asker(t *testing.T, address string) *pair {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	p := &pair{news: &fakeNews{stamp: "s1"}, clock: version.NewClock(nil, version.Timestamp{}), address: address}
	p.asking = newAsker(func() string { return p.address }, p.news, p.clock)
	t.Cleanup(p.asking.Close)
	return p
}

// newAsker returns the asking side of node A, to which B alone is known.
func newAsker(address func() string, news rosterNews, clock *version.Clock) *peers {
	return newPeers(peersConfig{
		Hello: func() membership.Hello {
			return membership.Hello{ID: idA, ClusterID: "c1", Address: "127.0.0.1:9000", Origin: 0xa}
		},
		Addresses: func(id string) (string, bool) { return address(), id == idB },
		Roster:    news,
		Clock:     clock,
	})
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := asker(t, "")
	config, _ := fakes()
	config.Self = idB
	p.replica, p.roster, p.offers = config.Replica.(*fakeReplica), config.Roster.(*fakeRoster), new(fakeOffers)
	config.Offers = p.offers
	server := httptest.NewUnstartedServer(nil)
	server.Config = newServer(newAPI(config), nil)
	server.Start()
	t.Cleanup(server.Close)
	p.address = server.Listener.Addr().String()
	return p
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestPeerRequestsCarryWhatTheReplicaAnswers(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 10*time.Second)
	record := replication.Record{Key: "foo", Version: someVersion(1), ContentType: "a/b", Value: []byte("value")}
	tombstone := replication.Record{Key: "bar", Version: someVersion(2), Deleted: true}

	p.replica.write = func(records []replication.Record) []replication.Outcome {
		if diff := cmp.Diff([]replication.Record{record, tombstone}, records, cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) })); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		return []replication.Outcome{{Current: record.Meta()}, {Err: fmt.Errorf("write: %w", replication.ErrDiskFull)}}
	}
	outcomes, err := p.asking.Write(ctx, idB, []replication.Record{record, tombstone})
	if err != nil || len(outcomes) != 2 || outcomes[0].Err != nil || outcomes[0].Current != record.Meta() || !errors.Is(outcomes[1].Err, replication.ErrDiskFull) {
		t.Errorf("write: got %v, %v", outcomes, err)
	}

	p.replica.lookup = func(key string) (replication.Meta, error) {
		switch key {
		case "foo":
			return record.Meta(), nil
		case "damaged":
			return replication.Meta{}, fmt.Errorf("read: %w", replication.ErrDamaged)
		}
		return replication.Meta{}, replication.ErrNotFound
	}
	if meta, err := p.asking.Lookup(ctx, idB, "foo"); err != nil || meta != record.Meta() {
		t.Errorf("lookup: got %v, %v, want %v", meta, err, record.Meta())
	}
	if _, err := p.asking.Lookup(ctx, idB, "nope"); !errors.Is(err, replication.ErrNotFound) {
		t.Errorf("lookup of nothing: got %v, want ErrNotFound", err)
	}
	if _, err := p.asking.Lookup(ctx, idB, "damaged"); !errors.Is(err, replication.ErrDamaged) || errors.Is(err, replication.ErrNotFound) {
		t.Errorf("lookup of a damaged record: got %v, want ErrDamaged alone", err)
	}

	large := record
	large.Value = []byte(strings.Repeat("x", 5<<20)) // beyond --max-value, which binds clients alone
	p.replica.fetch = func(string) (replication.Record, error) { return large, nil }
	if got, err := p.asking.Fetch(ctx, idB, "foo"); err != nil || got.Version != large.Version || string(got.Value) != string(large.Value) || got.ContentType != "a/b" {
		t.Errorf("fetch: got %v with %d bytes, %v", got.Version, len(got.Value), err)
	}
	p.replica.write = func(records []replication.Record) []replication.Outcome {
		return []replication.Outcome{{Current: records[0].Meta()}}
	}
	if got, err := p.asking.Write(ctx, idB, []replication.Record{large}); err != nil || got[0].Current != large.Meta() {
		t.Errorf("large write: got %v, %v", got, err)
	}

	set := new(seen.Set)
	set.Add(version.Dot{Origin: 0xb, Counter: 1})
	theirs := replication.Status{Origin: 0xb, Wall: time.Unix(1, 2), Keys: 3, Seen: set, SeenHash: set.Hash(), Recalled: set}
	mine := replication.Status{Origin: 0xa, Wall: time.Unix(3, 4), SeenHash: 77, Recall: true, Life: 3}
	p.replica.status = func(from string, asked replication.Status) replication.Status {
		if diff := cmp.Diff(mine, asked, sameSets); from != idA || diff != "" {
			t.Errorf("exchange with %s, want %s (-want +got):\n%s", from, idA, diff)
		}
		return theirs
	}
	got, err := p.asking.Exchange(ctx, idB, mine)
	if diff := cmp.Diff(theirs, got, sameSets); diff != "" || err != nil {
		t.Errorf("exchange (-want +got), %v:\n%s", err, diff)
	}

	buckets := make([]uint64, replication.DigestBuckets)
	buckets[4095] = 7
	p.replica.buckets = func() []uint64 { return buckets }
	if got, err := p.asking.Buckets(ctx, idB); err != nil || !slices.Equal(got, buckets) {
		t.Errorf("buckets: got %d of them, %v, want %d", len(got), err, len(buckets))
	}
	held := []replication.Held{{Key: "foo", Version: someVersion(1)}, {Key: "bar", Version: someVersion(2), Deleted: true}}
	p.replica.contents = func(buckets []int) []replication.Held {
		if !slices.Equal(buckets, []int{0, 4095}) {
			t.Errorf("contents of buckets %v, want 0 and 4095", buckets)
		}
		return held
	}
	if got, err := p.asking.Contents(ctx, idB, []int{0, 4095}); err != nil || !slices.Equal(got, held) {
		t.Errorf("contents: got %v, %v, want %v", got, err, held)
	}
	if _, err := p.asking.Contents(ctx, idB, []int{replication.DigestBuckets}); !errors.Is(err, errBadMessage) {
		t.Errorf("contents of a bucket that there is not: got %v, want errBadMessage", err)
	}

	p.roster.consent = func(hello membership.Hello, message []byte) ([]byte, error) {
		want := membership.Hello{ID: idA, ClusterID: "c1", Address: "127.0.0.1:9000", Origin: 0xa}
		if hello != want || string(message) != "will you?" {
			t.Errorf("consent: asked %q by %+v, want %+v", message, hello, want)
		}
		return []byte("yes"), nil
	}
	if answer, err := p.asking.Consent(ctx, idB, p.address, []byte("will you?")); err != nil || string(answer) != "yes" {
		t.Errorf("consent: got %q, %v, want yes", answer, err)
	}
	if len(p.news.merged) > 0 {
		t.Errorf("stamps were the same, but %q was merged", p.news.merged)
	}
}

func TestTimestampsInAnswersAreShownToTheClock(t *testing.T) {
	p := newPair(t)
	ahead := version.Timestamp{Wall: time.Now().Add(version.MaxAhead * 4 / 5).UnixNano()}
	next := func() version.Version {
		ahead = ahead.Next()
		return version.Version{Timestamp: ahead, Dot: version.Dot{Origin: 1, Counter: 1}}
	}
	record := replication.Record{Key: "foo"}
	p.replica.write = func([]replication.Record) []replication.Outcome {
		return []replication.Outcome{{Current: replication.Meta{Version: next()}}}
	}
	p.replica.lookup = func(string) (replication.Meta, error) { return replication.Meta{Version: next()}, nil }
	p.replica.fetch = func(string) (replication.Record, error) { r := record; r.Version = next(); return r, nil }
	p.replica.status = func(string, replication.Status) replication.Status {
		return replication.Status{Clock: next().Timestamp}
	}
	ctx := within(t, 10*time.Second)
	record.Version = someVersion(1)
	for name, call := range map[string]func() error{
		"write":    func() error { _, err := p.asking.Write(ctx, idB, []replication.Record{record}); return err },
		"lookup":   func() error { _, err := p.asking.Lookup(ctx, idB, "foo"); return err },
		"fetch":    func() error { _, err := p.asking.Fetch(ctx, idB, "foo"); return err },
		"exchange": func() error { _, err := p.asking.Exchange(ctx, idB, replication.Status{}); return err },
	} {
		if err := call(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := p.clock.Last(); got != ahead {
			t.Errorf("%s: clock at %v, want the answer's %v", name, got, ahead)
		}
	}
}

func TestWhatAPeerKnowsOfTheRosterIsMergedBeforeItsAnswerIsSeen(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 10*time.Second)
	p.roster.stamp = func() string { return "s1" }
	p.replica.lookup = func(key string) (replication.Meta, error) {
		p.roster.stamp = func() string { return "s2" } // a change that is accepted while it answers
		if key == "foo" {
			return replication.Meta{Version: someVersion(1)}, nil
		}
		return replication.Meta{}, replication.ErrNotFound
	}
	want := []string{"state of s2"}
	if _, err := p.asking.Lookup(ctx, idB, "foo"); err != nil || !slices.Equal(p.news.merged, want) {
		t.Errorf("answer: got %v with %q merged, want %q", err, p.news.merged, want)
	}
	p.news.merged = nil
	p.replica.fetch = func(string) (replication.Record, error) { return replication.Record{}, replication.ErrNotFound }
	if _, err := p.asking.Fetch(ctx, idB, "nope"); !errors.Is(err, replication.ErrNotFound) || !slices.Equal(p.news.merged, want) {
		t.Errorf("error: got %v with %q merged, want ErrNotFound and %q", err, p.news.merged, want)
	}
	p.news.merged, p.news.stamp = nil, "s2"
	if _, err := p.asking.Lookup(ctx, idB, "foo"); err != nil || len(p.news.merged) > 0 {
		t.Errorf("same stamp: got %v with %q merged, want nothing merged", err, p.news.merged)
	}
	// What could not be merged might have changed who counts: the answer must not count.
	p.news.stamp, p.news.fails = "s1", errors.New("disk gone")
	if _, err := p.asking.Lookup(ctx, idB, "foo"); !errors.Is(err, p.news.fails) {
		t.Errorf("merge that fails: got %v, want its error", err)
	}
}

// A learner appears somewhere, and a node whose disk has failed cannot note it: it reads on.
func TestOnlyPullsNeedADiskThatTakesLearners(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 10*time.Second)
	p.roster.stamp = func() string { return "s2" }
	p.roster.merge = func([]byte) error { return nil }
	p.news.stamp, p.news.fails = "s1", fmt.Errorf("%w: disk gone", membership.ErrNotEnrolled)
	p.replica.lookup = func(string) (replication.Meta, error) { return replication.Meta{Version: someVersion(1)}, nil }
	if _, err := p.asking.Lookup(ctx, idB, "foo"); err != nil {
		t.Errorf("lookup: got %v, want the answer", err)
	}
	p.offers.open = func(string, *seen.Set) (replication.Pull, error) {
		return replication.Pull{ID: 1, Seen: new(seen.Set)}, nil
	}
	if _, err := p.asking.OpenPull(ctx, idB, new(seen.Set)); !errors.Is(err, membership.ErrNotEnrolled) {
		t.Errorf("pull: got %v, want ErrNotEnrolled", err)
	}
}

// A learner that holds an old value must be known to everybody who has seen that it was deleted,
// so what the asking node knows goes into the answer, and so does the asking node itself.
func TestAPullTellsWhatTheAskingNodeKnowsOfTheRosterFirst(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 10*time.Second)
	stamp := "s2"
	p.roster.stamp = func() string { return stamp }
	merged := false
	p.roster.merge = func(state []byte) error {
		if string(state) != "state of s1" {
			t.Errorf("merged %q, want the asking node's state of s1", state)
		}
		merged = true
		return nil
	}
	set := seen.Of(version.Dot{Origin: 1, Counter: 2})
	p.offers.open = func(from string, theirs *seen.Set) (replication.Pull, error) {
		if !merged || from != idA || !theirs.Equal(set) {
			t.Errorf("offered to %s with %v, merged before: %v, want %s, %v and true", from, theirs, merged, idA, set)
		}
		stamp = "s3" // the asking node was enrolled
		return replication.Pull{ID: 5, Keys: 6, Seen: set}, nil
	}
	pull, err := p.asking.OpenPull(ctx, idB, set)
	if err != nil || pull.ID != 5 || pull.Keys != 6 || !pull.Seen.Equal(set) {
		t.Errorf("got %+v, %v", pull, err)
	}
	if want := []string{"state of s3"}; !slices.Equal(p.news.merged, want) {
		t.Errorf("the asking node merged %q, want %q", p.news.merged, want)
	}
	p.roster.merge = func([]byte) error { return errors.New("disk gone") }
	p.offers.open = func(string, *seen.Set) (replication.Pull, error) {
		t.Error("something was offered though the roster could not be merged")
		return replication.Pull{}, errors.New("no")
	}
	if _, err := p.asking.OpenPull(ctx, idB, set); err == nil {
		t.Error("pull without a merged roster: got no error")
	}
}

func TestANodeThatMayNotAskIsToldWhy(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 10*time.Second)
	p.roster.stamp = func() string { return "s2" }
	p.replica.write = func([]replication.Record) []replication.Outcome {
		t.Error("records of a node that may not ask were written")
		return nil
	}
	for _, want := range []error{membership.ErrRemoved, membership.ErrOtherCluster, membership.ErrTwin} {
		p.news.refused = nil
		p.roster.admit = func(membership.Hello) error { return want }
		_, err := p.asking.Write(ctx, idB, []replication.Record{{Key: "foo", Version: someVersion(1)}})
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if len(p.news.refused) != 1 || !errors.Is(p.news.refused[0], want) {
			t.Errorf("roster was told of %v, want %v", p.news.refused, want)
		}
		if len(p.news.merged) > 0 {
			t.Errorf("%v: merged %q of a node that refused", want, p.news.merged)
		}
	}
	// The agreement itself lets strangers ask: a node of another cluster may want in.
	p.roster.consent = func(membership.Hello, []byte) ([]byte, error) { return []byte("yes"), nil }
	if answer, err := p.asking.Consent(ctx, idB, p.address, nil); err != nil || string(answer) != "yes" {
		t.Errorf("consent: got %q, %v, want yes", answer, err)
	}
}

func TestStatusesBetweenNodes(t *testing.T) {
	config, _ := fakes()
	roster := config.Roster.(*fakeRoster)
	n := start(t, config)
	hello := []string{
		"Snakes-Protocol", "1", "Snakes-From", idB, "Snakes-To", idA, "Snakes-Cluster", "c1", "Snakes-Address", "127.0.0.1:9001", "Snakes-Origin", "b",
	}
	with := func(name, value string) []string { return append(slices.Clone(hello), name, value) }
	without := func(name string) []string {
		i := slices.Index(hello, name)
		return slices.Delete(slices.Clone(hello), i, i+2)
	}
	replace := func(name, value string) []string { return append(without(name), name, value) }
	config.Replica.(*fakeReplica).fetch = func(string) (replication.Record, error) {
		return replication.Record{}, replication.ErrNotFound
	}
	key := string(appendText(nil, "foo"))
	for _, row := range []struct {
		name    string
		headers []string
		body    string
		admit   error
		status  int
		kind    string // empty for a problem
	}{
		{"fine", with("Snakes-Roster", "s1"), key, nil, 404, "not-found"},
		{"curl", nil, key, nil, 400, ""},
		{"other protocol", replace("Snakes-Protocol", "2"), key, nil, 400, "protocol"},
		{"meant for another", replace("Snakes-To", idC), key, nil, 421, "misdirected"},
		{"meant for nobody", without("Snakes-To"), key, nil, 421, "misdirected"},
		{"no id", without("Snakes-From"), key, nil, 400, "bad-header"},
		{"short id", replace("Snakes-From", "abc"), key, nil, 400, "bad-header"},
		{"odd cluster", replace("Snakes-Cluster", "../x"), key, nil, 400, "bad-header"},
		{"joining", replace("Snakes-Cluster", ""), key, nil, 404, "not-found"},
		{"no port", replace("Snakes-Address", "127.0.0.1"), key, nil, 400, "bad-header"},
		{"no origin", without("Snakes-Origin"), key, nil, 400, "bad-header"},
		{"origin zero", replace("Snakes-Origin", "0"), key, nil, 400, "bad-header"},
		{"removed", hello, key, membership.ErrRemoved, 410, "removed"},
		{"other cluster", hello, key, membership.ErrOtherCluster, 421, "other-cluster"},
		{"twin", hello, key, membership.ErrTwin, 409, "twin"},
		{"no key", hello, "", nil, 411, "length-required"},
		{"empty key", hello, "\x00", nil, 400, "bad-message"},
		{"bad key", hello, string(appendText(nil, "a-b")), nil, 400, "bad-message"},
		{"too long", hello, key + "x", nil, 400, "bad-message"},
	} {
		roster.admit = func(membership.Hello) error { return row.admit }
		a := n.raw("POST /-/peer/fetch HTTP/1.1", append(pairs(row.headers, row.body), "", row.body)...)
		kind := ""
		if a.Header.Get("Content-Type") == peerType {
			d := decoder{rest: []byte(a.text)}
			kind = d.text(maxErrorText)
			if from := a.Header.Get("Snakes-From"); from != idA {
				t.Errorf("%s: answer from %q, want %q", row.name, from, idA)
			}
		} else {
			a.problem(t)
		}
		if a.StatusCode != row.status || kind != row.kind {
			t.Errorf("%s: got %d %q, want %d %q", row.name, a.StatusCode, kind, row.status, row.kind)
		}
	}
}

// pairs returns header lines for names and values, with the length of body if it has any.
func pairs(headers []string, body string) (lines []string) {
	for i := 0; i < len(headers); i += 2 {
		lines = append(lines, headers[i]+": "+headers[i+1])
	}
	if body != "" {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	return lines
}

func TestAPeerThatRefusesOrHangsIsAnError(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := asker(t, listener.Addr().String())
	ctx := within(t, 50*time.Millisecond) // accepted by the kernel, answered by nobody
	if _, err := p.asking.Lookup(ctx, idB, "foo"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("peer that hangs: got %v, want the context's error", err)
	}
	listener.Close()
	if _, err := p.asking.Lookup(within(t, 10*time.Second), idB, "foo"); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("peer that refuses: got %v, want an error at once", err)
	}
	if _, err := p.asking.Lookup(t.Context(), idC, "foo"); !errors.Is(err, errNoAddress) {
		t.Errorf("peer without address: got %v, want errNoAddress", err)
	}
}

func TestAPeerThatAnswersNonsenseIsAnError(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nSnakes-Protocol: 1\r\nSnakes-From: " + idB + "\r\nContent-Type: " + peerType + "\r\n"
	message := func(head string, body []byte) string {
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
	outcome := replication.Outcome{Current: replication.Meta{Version: someVersion(1)}}
	good := appendText(appendOutcomes(nil, []replication.Outcome{outcome}), "")
	for _, row := range []struct {
		name, answer string
		want         error // nil: any
	}{
		{"nothing", "", nil},
		{"no HTTP", "220 smtp ready\r\n", nil},
		{"HTML", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<ok>", errBadMessage},
		{"HTML in our protocol", "HTTP/1.1 200 OK\r\nSnakes-Protocol: 1\r\nSnakes-From: " + idB + "\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<ok>", errBadMessage},
		{"redirect", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", errBadMessage},
		{"other protocol", message(strings.Replace(head, "Protocol: 1", "Protocol: 2", 1), good), errProtocol},
		{"other node", message(strings.Replace(head, idB, idC, 1), good), errMisdirected},
		{"no node", message(strings.Replace(head, idB, "", 1), good), errMisdirected},
		{"empty", message(head, nil), errBadMessage},
		{"short", message(head, good[:20]), errBadMessage},
		{"no outcomes", message(head, appendText(appendOutcomes(nil, nil), "")), errBadMessage},
		{"too many outcomes", message(head, appendText(appendOutcomes(nil, []replication.Outcome{outcome, outcome}), "")), errBadMessage},
		{"more outcomes than bytes", message(head, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}), errBadMessage},
		{"an outcome of another length", message(head, slices.Concat([]byte{1, 200}, good[2:])), errBadMessage},
		{"long", message(head, append(slices.Clone(good), 0)), errBadMessage},
		{"cut", message(head, good)[:len(message(head, good))-5], io.ErrUnexpectedEOF},
		{"length beyond all limits", head + "Content-Length: 9999999999999\r\n\r\n", errTooLarge},
		{"error without a kind", message(strings.Replace(head, "200 OK", "500 X", 1), []byte{0, 0, 0}), errInternal},
		{"error that is none", message(strings.Replace(head, "200 OK", "404 X", 1), []byte("not found")), errBadMessage},
		{"endless headers", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxHeader), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := asker(t, serveRaw(t, row.answer))
			_, err := p.asking.Lookup(within(t, 10*time.Second), idB, "foo")
			if err == nil || errors.Is(err, context.DeadlineExceeded) || row.want != nil && !errors.Is(err, row.want) {
				t.Errorf("got %v, want an error that is %v", err, row.want)
			}
			if errors.Is(err, replication.ErrNotFound) {
				t.Errorf("got %v: nonsense passes for an answer", err)
			}
			if len(p.news.merged) > 0 {
				t.Errorf("merged %q", p.news.merged)
			}
		})
	}
	// The same harness with a good answer, so that the rows above fail for their own reasons.
	p := asker(t, serveRaw(t, message(head, good)))
	if _, err := p.asking.Lookup(within(t, 10*time.Second), idB, "foo"); err != nil {
		t.Errorf("good answer: got %v", err)
	}
}

// serveRaw answers every request with text and closes the connection.
func serveRaw(t *testing.T, text string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { listener.Close() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 4096)
			conn.Read(buffer)
			io.WriteString(conn, text)
			conn.Close()
		}
	})
	return listener.Addr().String()
}

func TestAnAnswerAboutAnotherMatterIsAnError(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 10*time.Second)
	record := replication.Record{Key: "foo", Version: someVersion(1)}
	p.replica.fetch = func(string) (replication.Record, error) { return record, nil }
	if _, err := p.asking.Fetch(ctx, idB, "bar"); !errors.Is(err, errBadMessage) {
		t.Errorf("record of another key: got %v, want errBadMessage", err)
	}
	p.replica.write = func([]replication.Record) []replication.Outcome {
		return []replication.Outcome{{Current: record.Meta()}}
	}
	if _, err := p.asking.Write(ctx, idB, []replication.Record{record, record}); !errors.Is(err, errBadMessage) {
		t.Errorf("one outcome of two records: got %v, want errBadMessage", err)
	}
}

// TestAPeerThatRestartedDoesNotLookFailed: connections that waited for the next request are
// dead by then, which must not cost the request.
func TestAPeerThatRestartedDoesNotLookFailed(t *testing.T) {
	p := newPair(t)
	p.replica.lookup = func(string) (replication.Meta, error) { return replication.Meta{Version: someVersion(1)}, nil }
	ctx := within(t, 10*time.Second)
	config, _ := fakes()
	config.Self, config.Replica = idB, p.replica
	var address string
	for range 3 {
		listener, err := net.Listen("tcp", stdcmp.Or(address, "127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		address = listener.Addr().String()
		p.address = address
		server := newServer(newAPI(config), nil)
		done := make(chan error, 1)
		go func() { done <- server.Serve(listener) }()
		for range 3 {
			if _, err := p.asking.Lookup(ctx, idB, "foo"); err != nil {
				t.Errorf("lookup: %v", err)
			}
		}
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Fatal(err)
		}
	}
}

func TestConnectionsToPeersAreKept(t *testing.T) {
	p := asker(t, "")
	config, _ := fakes()
	config.Self = idB
	config.Replica.(*fakeReplica).lookup = func(key string) (replication.Meta, error) {
		if key == "nope" {
			return replication.Meta{}, replication.ErrNotFound
		}
		return replication.Meta{Version: someVersion(1)}, nil
	}
	var mu sync.Mutex
	opened := 0
	server := httptest.NewUnstartedServer(nil)
	server.Config = newServer(newAPI(config), nil)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if state == http.StateNew {
			opened++
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	p.address = server.Listener.Addr().String()
	for range 20 {
		p.asking.Lookup(t.Context(), idB, "foo")
		p.asking.Lookup(t.Context(), idB, "nope")
	}
	mu.Lock()
	defer mu.Unlock()
	if opened != 1 {
		t.Errorf("40 calls in a row opened %d connections, want 1", opened)
	}
}
