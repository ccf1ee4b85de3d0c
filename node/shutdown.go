package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication"
)

const (
	// maxReserve is how much of the drain timeout is kept for what follows the requests: telling
	// the members takes a second and a half if one of them does not answer, giving back directory
	// and port some milliseconds.
	maxReserve = 2 * time.Second
	// minReserve is kept whatever the drain timeout is: who does not wait for requests still
	// tells the members that this node stops, which takes milliseconds if they answer.
	minReserve = 300 * time.Millisecond
	// farewellTime is for those whose connection was made just before the port was closed. It is within what directory and port get.
	farewellTime = 100 * time.Millisecond
	// minStep is what each step gets, even if those before it used up all the time: what has
	// nothing to wait for ends within it.
	minStep = 50 * time.Millisecond
)

// step is one part of a shutdown.
type step struct {
	// awaited is what the step waits for.
	awaited string
	// until is when to stop waiting; do gets a context that ends then.
	until time.Time
	do    func(ctx context.Context) error
}

// shutdown returns what to do, in this order, to end within timeout from now on: members choose
// others for new requests, and requests end, while new ones are told that it is too late; writes under way to other members end;
// members are told; directory and port are given back. Each step may use what those before it left.
func (n *Node) shutdown(now time.Time, timeout time.Duration, stop func()) []step {
	reserve := min(maxReserve, timeout/2)
	served := now.Add(timeout - reserve)
	reserve = max(reserve, minReserve)
	told, closed := served.Add(reserve*3/4), served.Add(reserve)
	return []step{
		{"requests", served, func(ctx context.Context) error {
			n.membership.SetDraining(true)
			n.farewell.start(n.requests())
			return n.server.Shutdown(ctx)
		}},
		{"connections", served, func(context.Context) error { return n.server.Close() }},
		{"writes to other members", served, func(context.Context) error { n.coordinator.Close(); return nil }},
		{"exchanges with other members", told, func(context.Context) error { stop(); return nil }},
		{"members being told", told, func(context.Context) error { n.membership.Stop(); return nil }},
		{"directory and port", closed, func(context.Context) error {
			// First the port: a connection that is made and finds nobody is reset, and its client cannot tell what happened.
			err := n.transport.StopAccepting()
			n.farewell.end()
			return errors.Join(err, n.close())
		}},
	}
}

// take does one step after the other and returns their errors. One that takes too long, since a
// member is silent or a disk hangs, is logged and left behind: the process is about to end, and
// whoever supervises it would otherwise kill it, and what the later steps do with it.
func (n *Node) take(steps []step) error {
	var errs []error
	for _, s := range steps {
		errs = append(errs, n.takeOne(s))
	}
	return errors.Join(errs...)
}

func (n *Node) takeOne(s step) error {
	ctx, cancel := context.WithTimeout(context.Background(), max(minStep, time.Until(s.until)))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.do(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		n.logger.Warn("cut off at the drain timeout", "awaited", s.awaited, "timeout", n.cfg.DrainTimeout)
		return nil
	}
	return err
}

// farewell answers the requests that come on new connections while a node stops. The port stays open until the members have been told,
// which takes a second or more, and a client whose connection is reset meanwhile cannot tell what happened.
type farewell struct {
	server  *http.Server
	running sync.WaitGroup
}

func newFarewell(a *api, log hclog.Logger) *farewell {
	return &farewell{server: newServer(http.HandlerFunc(a.farewell), log)}
}

// start answers what l has, from now on.
func (f *farewell) start(l net.Listener) {
	f.running.Go(func() { _ = f.server.Serve(l) }) // it ends by Close, or with the port, which others look after
}

// end stops answering, once those have their answer whose request came before, or farewellTime is over.
func (f *farewell) end() {
	ctx, cancel := context.WithTimeout(context.Background(), farewellTime)
	defer cancel()
	if f.server.Shutdown(ctx) != nil {
		_ = f.server.Close() // whoever has no answer yet would not get one
	}
	f.running.Wait()
}

// farewell answers one request of a client that comes while the node stops: how the node is doing it tells, and nothing else. Other
// nodes get no answer, as from one that is gone.
func (a *api) farewell(rw http.ResponseWriter, r *http.Request) {
	if isPeerPath(r) {
		panic(http.ErrAbortHandler)
	}
	rw.Header().Set("Connection", "close")
	if vital(r) {
		a.ServeHTTP(rw, r)
		return
	}
	a.respond(rw, r, func(w *response, r *http.Request) error { return replication.ErrClosed })
}
