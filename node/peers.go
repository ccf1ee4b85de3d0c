package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/node/secret"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

const (
	// callTime limits a call whose context has no deadline.
	callTime = 30 * time.Second
	// opPull opens a pull.
	opPull = "pull"
)

var errNoAddress = errors.New("address is not known")

// peersConfig is what peers works with. All fields but the last four are needed.
type peersConfig struct {
	// Hello says who this node is, as of now.
	Hello func() membership.Hello
	// Addresses returns the HOST:PORT of a node, or false if it is not known.
	Addresses func(id string) (address string, known bool)
	// Roster takes in what other nodes know of the roster, and their refusals.
	Roster rosterNews
	// Clock is shown the timestamps of answers.
	Clock *version.Clock
	// Identity proves who this node is, and that others are who they should be. Nil: there is no
	// secret, and connections are open.
	Identity *secret.Identity
	// Between is the room in memory for answers, in bytes; nil: as much as usual.
	Between *gate
	// Logger: nil means none.
	Logger hclog.Logger
	// Asked is told of each request to a node that has ended, and why there was no answer; nil:
	// nobody is. It must not block.
	Asked func(id, op string, took time.Duration, err error)
}

// rosterNews is what this node tells of the roster, and learns of it from answers.
type rosterNews interface {
	Stamp() string
	// State is all that this node knows of the roster.
	State() []byte
	// Merge takes in the State of another node. Once it returned nil, views of the cluster
	// show it; after membership.ErrNotEnrolled they lack learners alone.
	Merge(state []byte) error
	// Refused is told what this node was refused for by another.
	Refused(err error)
}

// errPeersClosed is returned for calls after Close.
var errPeersClosed = errors.New("this node asks no others any more")

// peers carries requests to other nodes: it is the asking side of what peer answers. It
// implements replication.Peers. Errors of another node are here what they were there, by
// errors.Is. Safe for concurrent use.
//
// Write, Lookup and Fetch go through lanes, one for each kind and node, so that a large value
// holds up no look-up; all else is a request of its own. Its goroutines are those that carry
// batches; Close ends them.
type peers struct {
	peersConfig
	*connections

	life context.Context // of batches, which outlive whoever began them; ends with Close
	end  context.CancelFunc

	mu      sync.Mutex // guards the fields below, and running against Add after Wait
	closed  bool
	links   map[string]*link // and the headings in them
	running sync.WaitGroup   // calls in lanes, and batches
}

var _ replication.Peers = (*peers)(nil)

// newPeers returns a peers that has no connection yet; Close ends those that it will have.
func newPeers(config peersConfig) *peers {
	life, end := context.WithCancel(context.Background())
	if config.Between == nil {
		config.Between = newGate(maxHeld)
	}
	return &peers{
		peersConfig: config, connections: newConnections(config.Identity, config.Logger),
		life: life, end: end, links: make(map[string]*link),
	}
}

// Close ends writes, look-ups and fetches under way and waits for them, makes new ones fail, and
// ends connections that carry no other call. Those end by their contexts. Closing again does
// nothing.
func (p *peers) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.end()
	p.running.Wait()
	p.CloseIdleConnections()
}

// Write implements replication.Peers.
func (p *peers) Write(ctx context.Context, id string, records []replication.Record) ([]replication.Outcome, error) {
	l, err := p.enter(id)
	if err != nil {
		return nil, err
	}
	defer p.running.Done()
	return l.writes.do(ctx, records)
}

// Lookup implements replication.Peers.
func (p *peers) Lookup(ctx context.Context, id, key string) (replication.Meta, error) {
	l, err := p.enter(id)
	if err != nil {
		return replication.Meta{}, err
	}
	defer p.running.Done()
	outcome, err := l.lookups.do(ctx, key)
	if err != nil {
		return replication.Meta{}, err
	}
	return outcome.Current, outcome.Err
}

// Fetch implements replication.Peers.
func (p *peers) Fetch(ctx context.Context, id, key string) (replication.Record, error) {
	l, err := p.enter(id)
	if err != nil {
		return replication.Record{}, err
	}
	defer p.running.Done()
	return l.fetches.do(ctx, key)
}

// Silent implements replication.Peers. A call that is in no lane left when it was begun; beside
// lanes that have an answer it is taken for a slow one.
func (p *peers) Silent(id string, since time.Time) bool {
	l, err := p.enter(id)
	if err != nil {
		return false // this node ends, which is no news of others
	}
	defer p.running.Done()
	idle := true
	for _, lane := range []interface{ standing() (int, time.Time) }{&l.writes, &l.lookups, &l.fetches} {
		flying, heard := lane.standing()
		if flying > 0 && heard.Before(since) {
			return true
		}
		idle = idle && flying == 0
	}
	return idle
}

// enter lets a call to node id in; whoever was let in is done with running at the end.
func (p *peers) enter(id string) (*link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, notSent(errPeersClosed)
	}
	p.running.Add(1)
	l := p.links[id]
	if l == nil {
		l = p.newLink(id)
		p.links[id] = l
	}
	return l, nil
}

// OpenPull implements replication.Peers.
func (p *peers) OpenPull(ctx context.Context, id string, mine *seen.Set) (replication.Pull, error) {
	var pull replication.Pull
	body, _ := mine.AppendBinary(nil) // the error is always nil
	body = appendText(body, p.Roster.State())
	if err := p.call(ctx, opPull, id, body, maxState, func(d *decoder) { pull = d.pull() }); err != nil {
		return replication.Pull{}, err
	}
	return pull, nil
}

// NextPage implements replication.Peers.
func (p *peers) NextPage(ctx context.Context, id string, pull, from uint64) (replication.Page, error) {
	var page replication.Page
	body := binary.AppendUvarint(binary.BigEndian.AppendUint64(nil, pull), from)
	if err := p.call(ctx, "page", id, body, maxPeerBody, func(d *decoder) { page = d.page() }); err != nil {
		return replication.Page{}, err
	}
	return page, nil
}

// Exchange implements replication.Peers.
func (p *peers) Exchange(ctx context.Context, id string, mine replication.Status) (replication.Status, error) {
	var theirs replication.Status
	err := p.call(ctx, "exchange", id, appendStatus(nil, mine), maxState, func(d *decoder) { theirs = d.status() })
	if err != nil {
		return replication.Status{}, err
	}
	p.Clock.Observe(theirs.Clock)
	return theirs, nil
}

// Buckets implements replication.Peers.
func (p *peers) Buckets(ctx context.Context, id string) ([]uint64, error) {
	var buckets []uint64
	if err := p.call(ctx, "buckets", id, nil, maxState, func(d *decoder) { buckets = d.buckets() }); err != nil {
		return nil, err
	}
	return buckets, nil
}

// Contents implements replication.Peers.
func (p *peers) Contents(ctx context.Context, id string, buckets []int) ([]replication.Held, error) {
	var held []replication.Held
	body := appendNumbers(nil, buckets)
	if err := p.call(ctx, "contents", id, body, maxState, func(d *decoder) { held = d.held() }); err != nil {
		return nil, err
	}
	return held, nil
}

// Range implements replication.Peers.
func (p *peers) Range(ctx context.Context, id string, span replication.Span) (replication.Stretch, error) {
	var found replication.Stretch
	err := p.call(ctx, "range", id, appendSpan(nil, span), maxState, func(d *decoder) { found = d.stretch() })
	if err != nil {
		return replication.Stretch{}, err
	}
	for _, e := range found.Entries {
		p.Clock.Observe(e.Version.Timestamp)
	}
	return found, nil
}

// Members returns what node id sees of the cluster, as it answers GET /-/members.
func (p *peers) Members(ctx context.Context, id string) (client.Members, error) {
	var text []byte
	if err := p.call(ctx, "members", id, nil, maxState, func(d *decoder) { text = d.bytes() }); err != nil {
		return client.Members{}, err
	}
	var seen client.Members
	if err := json.Unmarshal(text, &seen); err != nil {
		return client.Members{}, fmt.Errorf("members at node %s: %w: %w", id, errBadMessage, err)
	}
	return seen, nil
}

// Consent carries one message of the agreement on the roster to node id, which is said to be
// at address, HOST:PORT, and returns what it answers. It may arrive there twice.
func (p *peers) Consent(ctx context.Context, id, address string, message []byte) ([]byte, error) {
	var answer []byte
	body := appendText(nil, message)
	err := p.callAt(ctx, "consent", id, address, body, maxState, func(d *decoder) { answer = d.bytes() })
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// call is callAt the address of node id.
func (p *peers) call(ctx context.Context, op, id string, body []byte, limit int64, decode func(*decoder)) error {
	address, known := p.Addresses(id)
	if !known {
		return fmt.Errorf("%s at node %s: %w", op, id, errNoAddress)
	}
	return p.callAt(ctx, op, id, address, body, limit, decode)
}

// callAt sends body to node id and has decode read the answer, of at most limit bytes. When it
// returns, what the other node told of the roster is known here, whether or not it answered
// with an error.
func (p *peers) callAt(ctx context.Context, op, id, address string, body []byte, limit int64, decode func(*decoder)) error {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTime)
		defer cancel()
	}
	var held int64
	defer func() { p.Between.leave(held) }() // once it is taken apart
	hold := func(n int64) error {
		err := p.Between.enter(ctx, n)
		if err == nil {
			held = n
		}
		return err
	}
	began := time.Now()
	answer, status, err := p.post(ctx, op, id, address, body, limit, hold)
	if p.Asked != nil {
		p.Asked(id, op, time.Since(began), err)
	}
	if err == nil {
		err = p.read(op, answer, status, decode)
	}
	if err != nil {
		return fmt.Errorf("%s at node %s (%s): %w", op, id, address, err)
	}
	return nil
}

// post returns the body of node id's answer, and its status. hold is that of readBounded.
func (p *peers) post(
	ctx context.Context, op, id, address string, body []byte, limit int64, hold func(int64) error,
) ([]byte, int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "", bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	request.URL, request.Host, request.Header = p.url(id, address, peerPath+op), address, p.headers(id)

	// The transport itself follows no redirect.
	response, err := p.RoundTrip(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	if err := sentBy(response, id); err != nil {
		return nil, 0, err
	}
	answer, err := readBounded(response.Body, response.ContentLength, limit, hold, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("read answer: %w", err)
	}
	return answer, response.StatusCode, nil
}

// heading is the headers of requests to one node, which stay the same for long.
type heading struct {
	hello   membership.Hello
	stamp   string
	headers http.Header // never changed
}

// headers returns the headers of a request to node id, which must not be changed.
func (p *peers) headers(id string) http.Header {
	hello, stamp := p.Hello(), p.Roster.Stamp()
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.links[id]
	if l != nil && l.heading.hello == hello && l.heading.stamp == stamp {
		return l.heading.headers
	}
	headers := http.Header{
		"Content-Type": {peerType},
		// Present but empty is not sent; it says that this request may be sent again. A
		// peer that restarted has closed the connections that wait here, and that must
		// not look as if it failed.
		"Idempotency-Key": {},
		"User-Agent":      {}, // as above: it would tell nothing
	}
	headers.Set(headerProtocol, protocol)
	headers.Set(headerTo, id)
	headers.Set(headerRoster, stamp)
	setHello(headers, hello)
	if l != nil {
		l.heading = heading{hello, stamp, headers}
	}
	return headers
}

// sentBy returns nil if node id sent the response, in our protocol.
func sentBy(response *http.Response, id string) error {
	theirs, contentType := response.Header.Get(headerProtocol), response.Header.Get("Content-Type")
	switch from := response.Header.Get(headerFrom); {
	case theirs == "" || contentType != peerType && theirs == protocol:
		return fmt.Errorf("%w: status %d with %.80q is no answer of a node", errBadMessage, response.StatusCode, contentType)
	case theirs != protocol:
		return fmt.Errorf("%w: this node speaks %s, the other one %.20s", errProtocol, protocol, theirs)
	case from != id:
		return fmt.Errorf("%w: node %.40q answers there", errMisdirected, from)
	}
	return nil
}

// read takes the answer to op apart. A node whose disk takes no learners any more has all the same
// heard which rosters to count in, so it goes on; only to pull, it must know durably whom else
// the other node may have given records to.
func (p *peers) read(op string, answer []byte, status int, decode func(*decoder)) error {
	d := decoder{rest: answer}
	var theirs error
	if status == http.StatusOK {
		decode(&d)
	} else {
		theirs = d.remoteError(d.text(maxErrorText))
	}
	state := d.bytes()
	if err := d.end(); err != nil {
		return err
	}
	if len(state) > 0 {
		if err := p.Roster.Merge(state); err != nil && (op == opPull || !errors.Is(err, membership.ErrNotEnrolled)) {
			return fmt.Errorf("merge roster: %w", err)
		}
	}
	if theirs != nil {
		p.Roster.Refused(theirs)
	}
	return theirs
}
