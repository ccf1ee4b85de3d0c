package node

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/protocol7/snakes/replication"
)

// ended returns which of the nodes have ended, all in good order.
func ended(t *testing.T, nodes ...*running) (of []*running) {
	t.Helper()
	for _, n := range nodes {
		select {
		case err := <-n.done:
			n.done <- err // for who stops it
			if err != nil {
				t.Fatalf("%s: %v", n.Name(), err)
			}
			of = append(of, n)
		default:
		}
	}
	return of
}

func TestOfAllThatLeaveAtOnceTheLastStaysAndServes(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := run(t, Config{Name: "a"})
	b := run(t, Config{Name: "b", Join: []string{a.Address()}})
	awaitStates(t, "2: alive alive", a, b)
	if got := a.ask(t, "PUT", "/foo?w=all", "bar"); got != "201" {
		t.Fatal(got)
	}
	if err := errors.Join(a.Leave(), b.Leave()); err != nil {
		t.Fatal(err)
	}
	await(t, "node that has left", func() bool { return len(ended(t, a, b)) > 0 })
	stays := a
	if ended(t, a, b)[0] == a {
		stays = b
	}
	awaitStates(t, "1: alive", stays)
	await(t, "end of leaving", func() bool { return !stays.leaving.Load() })
	if got := stays.ask(t, "PUT", "/foo", "baz"); got != "201" {
		t.Errorf("write: got %q, want 201", got)
	}
	if got := stays.ask(t, "GET", "/-/ready", ""); !strings.HasPrefix(got, "200") {
		t.Errorf("ready: got %q, want 200", got)
	}

	// Nothing of it is left when there are others again, and it may leave anew.
	c := run(t, Config{Name: "c", Join: []string{stays.Address()}})
	awaitStates(t, "2: alive alive", stays, c)
	if got := stays.ask(t, "PUT", "/foo?w=all", "qux"); got != "201" {
		t.Errorf("write at both: got %q, want 201", got)
	}
	if gone := ended(t, stays, c); len(gone) > 0 {
		t.Fatalf("%s ended, by the leave that was given up", gone[0].Name())
	}
	if err := stays.Leave(); err != nil {
		t.Fatal(err)
	}
	await(t, "node that has left", func() bool { return len(ended(t, stays)) == 1 })
	awaitStates(t, "1: alive", c)
	if got := c.ask(t, "GET", "/foo", ""); got != "200 qux" {
		t.Errorf("read: got %q, want what was there", got)
	}
}

// A node that leaves must not take the cluster's writes with it.
func TestNobodyLeavesAClusterThatCouldNotServeWithoutIt(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := run(t, Config{Name: "a"})
	b := run(t, Config{Name: "b", Join: []string{a.Address()}})
	c := run(t, Config{Name: "c", Join: []string{a.Address()}})
	awaitStates(t, "3: alive alive alive", a, b, c)
	c.end()
	awaitStates(t, "3: alive alive stopped", a, b)
	if err := b.Leave(); !errors.Is(err, errTooFewStay) {
		t.Errorf("leave while another is down: got %v, want errTooFewStay", err)
	}
	if err := a.membership.Forget(t.Context(), "c", false); err != nil {
		t.Fatal(err)
	}
	if err := b.Leave(); err != nil {
		t.Errorf("once that one is forgotten: got %v", err)
	}
	await(t, "node that has left", func() bool { return len(ended(t, b)) == 1 })
	awaitStates(t, "1: alive", a)
}

// runMute runs a node of which nodes hear nothing any more once it knows that the one in mute was
// removed.
func runMute(t *testing.T, cfg Config, mute *atomic.Pointer[running]) *running {
	t.Helper()
	cfg.Data = t.TempDir()
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	answers := n.server.Handler
	n.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := mute.Load()
		if to == nil || !strings.HasPrefix(r.URL.Path, peerPath) {
			answers.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		answers.ServeHTTP(answer, r)
		if !knows(n, to) {
			panic(http.ErrAbortHandler)
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = answer.Body.WriteTo(w) // who asked may be gone
	})
	ctx, end := context.WithCancel(context.Background())
	r := &running{Node: n, end: end, done: make(chan error, 1)}
	go func() { r.done <- n.Run(ctx) }()
	t.Cleanup(r.stop(t))
	return r
}

// knows reports whether n takes another for a member or learner.
func knows(n *Node, other *running) bool {
	m, _ := n.membership.Snapshot().Member(other.id)
	return m.Enrolled
}

// The others refuse it from then on, so that it never hears what they have.
func TestWhoIsRemovedAlreadyWaitsForNobodyToHaveEverything(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var mute atomic.Pointer[running]
	a := run(t, Config{Name: "a"})
	b := runMute(t, Config{Name: "b", Join: []string{a.Address()}}, &mute)
	awaitStates(t, "2: alive alive", a, b)
	mute.Store(a)
	a.leaving.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := a.membership.Leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("nobody answers: got %v, want DeadlineExceeded", err)
	}
	await(t, "removal known to b", func() bool { return !knows(b.Node, a) })
	for _, outcome := range a.coordinator.Replica().Write([]replication.Record{{Key: "foo", Version: someVersion(1)}}) {
		if outcome.Err != nil {
			t.Fatal(outcome.Err)
		}
	}
	mute.Store(nil)
	if err := a.tryToDepart(t.Context()); err != nil {
		t.Errorf("got %v, want that it has left", err)
	}
}
