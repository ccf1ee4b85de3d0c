package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
)

const (
	// peerPath is where nodes talk to each other.
	peerPath = "/-/peer/"
	// peerType is the content type of all bodies between nodes.
	peerType = "application/vnd.snakes.peer"
	// protocol is the version of what nodes say to each other. There is one so far.
	protocol = "1"
	// largestValue is what --max-value may be at most. It binds clients alone: a value that one node took must reach all, those
	// with a lower limit too.
	largestValue = 64 << 20
	// maxPeerBody is the size in bytes of the largest request or answer between nodes: one that brings values, which are more
	// than one only up to batchBytes, or a page. What was not sent yet takes no memory.
	maxPeerBody = largestValue + 2<<20
	// maxState is that of one that brings none, but what grows with the cluster or its age: a seen set with many gaps, the
	// state of a roster.
	maxState = 64 << 20
	// maxQuestion is that of a request that brings neither values nor anything that grows with the cluster or its age: keys to
	// look up are the most.
	maxQuestion = 2 << 20
)

// The headers between nodes. A request says who asks and who is meant, an answer who answers.
const (
	headerProtocol = "Snakes-Protocol"
	headerFrom     = "Snakes-From"    // node id
	headerTo       = "Snakes-To"      // node id
	headerCluster  = "Snakes-Cluster" // cluster id, empty while joining
	headerAddress  = "Snakes-Address" // HOST:PORT
	headerOrigin   = "Snakes-Origin"  // hexadecimal
	headerRoster   = "Snakes-Roster"  // stamp
)

// peerOp answers the body of another node's request; the answer is made of what codec.go lists.
type peerOp func(ctx context.Context, from membership.Hello, body []byte) ([]byte, error)

// member makes op a handler for members of the same cluster alone, which may ask with limit bytes and are told what this
// node knows of the roster and they do not. The roster is looked at after op, so that the
// answer tells of every change that this node accepted before it.
func (a *api) member(op peerOp, limit int64) handler {
	news := func(h http.Header) []byte {
		if a.Roster.Stamp() == h.Get(headerRoster) {
			return nil
		}
		return a.Roster.State()
	}
	return a.peer(op, limit, a.Roster.Admit, news)
}

// anyNode makes op, which decides by itself whom it answers and what it tells, a handler.
func (a *api) anyNode(op peerOp) handler {
	admit := func(context.Context, membership.Hello) error { return nil }
	return a.peer(op, maxState, admit, func(http.Header) []byte { return nil })
}

func (a *api) peer(
	op peerOp, limit int64, admit func(context.Context, membership.Hello) error, news func(http.Header) []byte,
) handler {
	return func(w *response, r *http.Request) error {
		if err := a.provenPeer(w, r); err != nil {
			return err
		}
		if r.Header.Get(headerProtocol) == "" {
			return refuse(errBadHeader, "This path is for requests between nodes, which have a header %s.", headerProtocol)
		}
		w.Header().Set(headerProtocol, protocol)
		w.Header().Set(headerFrom, a.Self)
		from, err := a.hello(r.Header)
		if err == nil {
			err = admit(r.Context(), from)
		}
		if err != nil {
			a.failPeer(w, r, nil, err)
			return nil
		}
		if w.conn != nil {
			w.conn.peer.Store(true)
		}
		body, err := w.body(r, limit, a.Between)
		var answer []byte
		if err == nil {
			answer, err = op(r.Context(), from, body)
		}
		if err != nil {
			a.failPeer(w, r, news(r.Header), err)
			return nil
		}
		return w.send(http.StatusOK, peerType, appendText(answer, news(r.Header)))
	}
}

// provenPeer returns nil if r comes from the node that it says it comes from, or if there is no secret to prove that
// with. Nothing in r counts, only the connection that it came on: whoever passes it on, such as a proxy, has another one.
func (a *api) provenPeer(w *response, r *http.Request) error {
	if a.PeerOf == nil {
		return nil
	}
	id, err := a.PeerOf(r.TLS)
	if err == nil && id == r.Header.Get(headerFrom) {
		return nil
	}
	w.Header().Set("Connection", "close") // a node whose secret was removed learns why on its next one
	return refuse(errForbidden, "Paths under %s are for the nodes of this cluster, which prove that they have its secret.", peerPath)
}

// failPeer answers another node with an error.
func (a *api) failPeer(w *response, r *http.Request, news []byte, err error) {
	w.err = err
	w.refuse(r, kindOf(err).status, peerType, appendText(appendError(nil, err), news))
}

// hello returns who sent a request with these headers, or an error if it is not for this node
// or in a protocol that it does not speak.
func (a *api) hello(h http.Header) (membership.Hello, error) {
	if theirs := h.Get(headerProtocol); theirs != protocol {
		return membership.Hello{}, refuse(errProtocol, "this node speaks protocol %s, the asking one %s", protocol, shortened(theirs))
	}
	// Before anything else is done: addresses are reused, and a write meant for another node
	// must not count as this one's.
	if to := h.Get(headerTo); to != a.Self {
		return membership.Hello{}, refuse(errMisdirected, "this is node %s, not %s", a.Self, shortened(to))
	}
	return parseHello(h)
}

func setHello(h http.Header, hello membership.Hello) {
	h.Set(headerFrom, hello.ID)
	h.Set(headerCluster, hello.ClusterID)
	h.Set(headerAddress, hello.Address)
	h.Set(headerOrigin, strconv.FormatUint(hello.Origin, 16))
}

func parseHello(h http.Header) (membership.Hello, error) {
	hello := membership.Hello{ID: h.Get(headerFrom), ClusterID: h.Get(headerCluster), Address: h.Get(headerAddress)}
	if !hexadecimal(hello.ID) || len(hello.ID) != 32 {
		return hello, refuse(errBadHeader, "%s is no node id", headerFrom)
	}
	if !hexadecimal(hello.ClusterID) || len(hello.ClusterID) > 64 {
		return hello, refuse(errBadHeader, "%s is no cluster id", headerCluster)
	}
	if _, _, err := net.SplitHostPort(hello.Address); err != nil || len(hello.Address) > 300 || !printable(hello.Address) {
		return hello, refuse(errBadHeader, "%s is no HOST:PORT", headerAddress)
	}
	origin, err := strconv.ParseUint(h.Get(headerOrigin), 16, 64)
	if err != nil || origin == 0 {
		return hello, refuse(errBadHeader, "%s is no origin", headerOrigin)
	}
	hello.Origin = origin
	return hello, nil
}

// hexadecimal reports whether s holds lower-case hexadecimal digits alone.
func hexadecimal(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func (a *api) peerWrite(_ context.Context, _ membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	records := d.records()
	if err := d.end(); err != nil {
		return nil, err
	}
	return appendOutcomes(make([]byte, 0, outcomesRoom(len(records))), a.Replica.Write(records)), nil
}

// peerLookup answers for each key by itself: that one is damaged is no news of the others.
func (a *api) peerLookup(_ context.Context, _ membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	keys := d.keys()
	if err := d.end(); err != nil {
		return nil, err
	}
	outcomes := make([]replication.Outcome, len(keys))
	for i, key := range keys {
		outcomes[i].Current, outcomes[i].Err = a.Replica.Lookup(key)
	}
	return appendOutcomes(make([]byte, 0, outcomesRoom(len(keys))), outcomes), nil
}

func (a *api) peerFetch(_ context.Context, _ membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	key := d.key()
	if err := d.end(); err != nil {
		return nil, err
	}
	record, err := a.Replica.Fetch(key)
	if err != nil {
		return nil, err
	}
	return appendRecord(make([]byte, 0, recordRoom(record)), record), nil
}

func (a *api) peerPull(_ context.Context, from membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	theirs, roster := d.seen(), d.bytes()
	if err := d.end(); err != nil {
		return nil, err
	}
	// What the asking node knows of the roster goes out again with this node's seen set: so
	// whoever has that set knows of all nodes that the asking one got records from.
	if err := a.Roster.Merge(roster); err != nil {
		return nil, fmt.Errorf("merge the asking node's roster: %w", err)
	}
	pull, err := a.Offers.OpenPull(from.ID, theirs)
	if err != nil {
		return nil, err
	}
	return appendPull(nil, pull), nil
}

func (a *api) peerPage(_ context.Context, _ membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	pull, from := d.uint64(), d.uvarint()
	if err := d.end(); err != nil {
		return nil, err
	}
	page, err := a.Offers.NextPage(pull, from)
	if err != nil {
		return nil, err
	}
	return appendPage(nil, page), nil
}

func (a *api) peerExchange(_ context.Context, from membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	theirs := d.status()
	if err := d.end(); err != nil {
		return nil, err
	}
	a.Clock.Observe(theirs.Clock)
	return appendStatus(nil, a.Replica.Status(from.ID, theirs)), nil
}

func (a *api) peerBuckets(_ context.Context, _ membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	if err := d.end(); err != nil {
		return nil, err
	}
	return appendBuckets(nil, a.Replica.Buckets()), nil
}

func (a *api) peerContents(_ context.Context, _ membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	buckets := d.numbers(replication.DigestBuckets)
	if err := d.end(); err != nil {
		return nil, err
	}
	return appendHeld(nil, a.Replica.Contents(buckets)), nil
}

func (a *api) peerRange(_ context.Context, _ membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	span := d.span()
	if err := d.end(); err != nil {
		return nil, err
	}
	found, err := a.Replica.Range(span)
	if err != nil {
		return nil, err
	}
	return appendStretch(nil, found), nil
}

// peerMembers answers what GET /-/members does, so that the page can show what each member sees.
func (a *api) peerMembers(_ context.Context, _ membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	if err := d.end(); err != nil {
		return nil, err
	}
	return appendText(nil, encodeLine(a.view().Members)), nil
}

func (a *api) peerConsent(ctx context.Context, from membership.Hello, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	message := d.bytes()
	if err := d.end(); err != nil {
		return nil, err
	}
	answer, err := a.Roster.Consent(ctx, from, message)
	if errors.Is(err, membership.ErrBadMessage) {
		return nil, fmt.Errorf("%w: %w", errBadMessage, err)
	}
	if err != nil {
		return nil, err
	}
	return appendText(nil, answer), nil
}
