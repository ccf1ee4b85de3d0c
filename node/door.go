package node

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxConnections is how many connections for requests there are at most: each takes some 20 KiB.
	maxConnections = 8192
	// maxUnclaimed is how many more there are at most that have not sent anything yet.
	maxUnclaimed = 4096
	// slowAfter is how long a connection may be in the way of another one without doing anything.
	slowAfter = 500 * time.Millisecond
	// readerTime is for how long a client may take nothing of an answer. Between 25 and 30 s it is, as deadlines are not moved for
	// each write, and large answers go out in pieces of readerPiece.
	readerTime  = 30 * time.Second
	readerRenew = 5 * time.Second
	readerPiece = 64 << 10
)

// doorConfig says how many connections there may be.
type doorConfig struct {
	// Connections may ask for anything, Spare more for what is vital, see vital.
	Connections, Spare int
	// Unclaimed is for package transport.
	Unclaimed int
}

// doorFor shares out what the system lets a process open: half is for connections with requests, an eighth for those that
// are silent so far. More than a quarter is left for files, gossip, and connections to other nodes.
func doorFor(files int) doorConfig {
	connections := max(16, min(maxConnections, files/2))
	return doorConfig{Connections: connections, Spare: max(4, connections/16), Unclaimed: max(16, min(maxUnclaimed, files/8))}
}

// door bounds the connections for HTTP. When there are as many as there may be, those that have kept the node waiting longest
// make way: for a request, idle ones and slow ones alike, or for the rest of a body. If none does, some more
// come in for one request each, which is refused unless it is vital; and after that they wait outside.
//
// What a connection does is noted without a lock. Safe for concurrent use.
type door struct {
	doorConfig

	mu    sync.Mutex // guards the two below
	in    map[*inbound]struct{}
	freed chan struct{} // closed, and made anew, when one has gone

	turnedOut, refused atomic.Uint64
}

func newDoor(config doorConfig) *door {
	return &door{doorConfig: config, in: make(map[*inbound]struct{}), freed: make(chan struct{})}
}

// enter returns tcp as one of the connections, once there is room; false if closed is closed before that.
func (d *door) enter(closed <-chan struct{}, tcp net.Conn) (*inbound, bool) {
	for {
		c, freed := d.tryEnter(tcp)
		if c != nil {
			return c, true
		}
		select {
		case <-closed:
			return nil, false
		case <-freed:
		case <-time.After(slowAfter / 10): // another one may be slow by then
		}
	}
}

// tryEnter returns nil and what is closed when one has gone, if there is no room.
func (d *door) tryEnter(tcp net.Conn) (*inbound, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.in) >= d.Connections {
		d.turnOut()
	}
	if len(d.in) >= d.Connections+d.Spare {
		return nil, d.freed
	}
	c := &inbound{Conn: tcp, door: d, extra: len(d.in) >= d.Connections}
	c.now(waits)
	d.in[c] = struct{}{}
	return c, nil
}

// turnOut closes the connections that keep the node waiting longest: several at a time, since looking for them takes a look at
// all. The caller holds d.mu.
func (d *door) turnOut() {
	late := time.Now().Add(-slowAfter).UnixNano()
	var slow []*inbound
	for c := range d.in {
		if state(c.state.Load()) == waits && c.since.Load() < late && !c.peer.Load() {
			slow = append(slow, c)
		}
	}
	slices.SortFunc(slow, func(a, b *inbound) int { return cmp.Compare(a.since.Load(), b.since.Load()) })
	for _, c := range slow[:min(len(slow), 1+d.Connections/32)] {
		delete(d.in, c)
		d.turnedOut.Add(1)
		_ = c.Conn.Close() // whoever reads from it learns of it
	}
}

func (d *door) leave(c *inbound) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.in, c)
	close(d.freed)
	d.freed = make(chan struct{})
}

// stats returns how many connections there are, how many had to make way, and how many were refused a request.
func (d *door) stats() (open int, turnedOut, refused uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.in), d.turnedOut.Load(), d.refused.Load()
}

// state is what a connection does.
type state int32

const (
	waits state = iota // for its client: to ask, or to go on with a body
	works              // for its client
)

// inbound is a connection for HTTP.
type inbound struct {
	net.Conn
	door *door
	// extra: it came in above the number of connections, for one vital request.
	extra bool
	// peer: a member of the cluster has asked on it, so that it never makes way for others.
	peer  atomic.Bool
	state atomic.Int32
	since atomic.Int64 // when state was set, in ns since 1970
	left  sync.Once

	// limited: whoever writes limits how long that takes. renewed is when Write did so last. Writes come one at a time,
	// but deadlines may be set beside them.
	limited atomic.Bool
	renewed atomic.Int64
}

// now notes what the connection does from now on; c may be nil.
func (c *inbound) now(s state) {
	if c == nil {
		return
	}
	c.state.Store(int32(s))
	c.since.Store(time.Now().UnixNano())
}

// Close closes the connection and makes room for another one. Closing again does nothing more.
func (c *inbound) Close() error {
	err := c.Conn.Close()
	c.left.Do(func() { c.door.leave(c) })
	return err
}

// CloseWrite is for net/http, which lets a client read an answer to its end before it closes the connection.
func (c *inbound) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// Write ends with an error if the other side takes nothing for readerTime, unless somebody has set another deadline. Until it
// takes something it keeps the node waiting.
func (c *inbound) Write(p []byte) (n int, err error) {
	defer c.now(state(c.state.Load()))
	for {
		c.now(waits)
		if now := time.Now(); !c.limited.Load() && now.UnixNano()-c.renewed.Load() > int64(readerRenew) {
			if err := c.Conn.SetWriteDeadline(now.Add(readerTime)); err != nil {
				return n, err
			}
			c.renewed.Store(now.UnixNano())
		}
		wrote, err := c.Conn.Write(p[n:min(len(p), n+readerPiece)])
		n += wrote
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// SetWriteDeadline limits writes from now on; the zero time puts back the limit that there is usually.
func (c *inbound) SetWriteDeadline(t time.Time) error {
	if c.limited.Store(!t.IsZero()); t.IsZero() {
		return nil // net/http does this after each request; the next Write moves the deadline, if it is near
	}
	c.renewed.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *inbound) SetDeadline(t time.Time) error {
	if err := c.Conn.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// inboundKey is that of the *inbound in the context of a request.
type inboundKey struct{}

// inboundOf returns the connection of the server that c is, nil if it came through no door.
func inboundOf(c net.Conn) *inbound {
	if t, ok := c.(*tlsConn); ok {
		c = t.NetConn()
	}
	in, _ := c.(*inbound)
	return in
}

// watchConnections has server tell the connections that came through a door what they do.
func watchConnections(server *http.Server) {
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if in := inboundOf(c); in != nil {
			return context.WithValue(ctx, inboundKey{}, in)
		}
		return ctx
	}
	server.ConnState = func(c net.Conn, s http.ConnState) {
		in := inboundOf(c)
		switch {
		case in == nil:
		case s == http.StateActive:
			in.now(works)
		case s == http.StateIdle:
			in.now(waits)
		}
	}
}

// vitalPaths are those that tell how a node is doing. They and those between nodes are served whatever the number of connections.
var vitalPaths = []string{"/-/healthy", "/-/ready", "/-/members", "/-/metrics"}

func vital(r *http.Request) bool {
	return isPeerPath(r) || r.Method == http.MethodGet && slices.Contains(vitalPaths, rawPath(r))
}

// admit refuses what came on a connection above their number, unless it is vital. There is no second request on those of clients.
func (c *inbound) admit(w *response, r *http.Request) error {
	if c == nil || !c.extra {
		return nil
	}
	if !isPeerPath(r) {
		w.Header().Set("Connection", "close")
	}
	if vital(r) {
		return nil
	}
	c.door.refused.Add(1)
	return refuse(errOverloaded, "This node has as many connections as it takes. Send the request again later, or to another member.")
}
