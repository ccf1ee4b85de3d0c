package transport

import (
	"container/list"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// grace is how long an unclaimed connection is safe from newer ones. In a burst, accepting outruns the goroutines
// that deliver; without grace, clients that have spoken already would be closed in hundreds. It bounds accepting
// to MaxUnclaimed / grace a second (2,048 by default) while nobody claims anything.
const grace = 500 * time.Millisecond

const (
	gossipByte = 0xF4 // memberlist's type byte of a label header
	tlsByte    = 0x16 // content type of a TLS handshake record, RFC 8446 section 5.1
)

// acceptAll gives every connection that accept returns a goroutine of its own, until accept returns
// net.ErrClosed.
func (t *Transport) acceptAll(ctx context.Context, accept func() (*net.TCPConn, error)) {
	var pause pause
	for {
		tcp, err := accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.counts.acceptErrors.Add(1)
			t.logger.Warn("connection not accepted", "error", err)
			pause.wait(ctx.Done())
			continue
		}
		pause.reset()
		connCtx, end := context.WithCancel(ctx)
		at, crowded := t.unclaimed.add(end)
		if crowded {
			t.counts.crowded.Add(1)
		}
		t.connections.Go(func() {
			defer end()
			defer t.unclaimed.remove(at)
			t.deliver(connCtx, tcp)
		})
	}
}

// deliver reads the first byte of tcp and waits until the owner that it names has claimed tcp. If there is none,
// or ctx ends first, it closes tcp.
func (t *Transport) deliver(ctx context.Context, tcp *net.TCPConn) {
	closed := make(chan struct{})
	closeAtEnd := context.AfterFunc(ctx, func() {
		_ = tcp.Close() // unblocks the read below
		close(closed)
	})
	first, err := firstByte(tcp, t.cfg.SniffTimeout)
	if !closeAtEnd() {
		<-closed
		return
	}
	remote := tcp.RemoteAddr().(*net.TCPAddr)
	var to *owner
	switch {
	case err != nil:
		t.counts.silent.Add(1)
		t.logger.Debug("silent connection closed", "remote", remote, "error", err)
	case first == gossipByte:
		if t.cfg.Allow(unmap(remote.AddrPort())) {
			to = t.gossip
		}
	case first == tlsByte, 'A' <= first && first <= 'Z':
		to = t.requests
	default:
		t.counts.unknown.Add(1)
		t.logger.Debug("connection of unknown kind closed", "remote", remote, "first_byte", first)
	}
	if to == nil || !to.offer(ctx, newConn(tcp, first)) {
		_ = tcp.Close() // nothing was written to it
	}
}

// firstByte reads one byte within timeout and leaves tcp without a deadline.
func firstByte(tcp *net.TCPConn, timeout time.Duration) (byte, error) {
	if err := tcp.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return 0, err
	}
	var first [1]byte
	if _, err := tcp.Read(first[:]); err != nil {
		return 0, err
	}
	return first[0], tcp.SetReadDeadline(time.Time{})
}

// unclaimed holds the unclaimed connections, oldest first.
// Invariant: there are never more than limit.
type unclaimed struct {
	limit int
	freed chan struct{} // holds one signal at most: a place was freed since the last look

	mu    sync.Mutex
	byAge list.List // of place; guarded by mu
}

type place struct {
	since time.Time
	end   context.CancelFunc
}

func newUnclaimed(limit int) *unclaimed {
	return &unclaimed{limit: limit, freed: make(chan struct{}, 1)}
}

// add enters a connection whose wait end ends, and reports whether the oldest had to go for it. If all places are
// taken it waits for one, but no longer than the oldest has had its grace.
func (u *unclaimed) add(end context.CancelFunc) (at *list.Element, crowded bool) {
	for {
		u.mu.Lock()
		if u.byAge.Len() < u.limit {
			at = u.byAge.PushBack(place{time.Now(), end})
			u.mu.Unlock()
			return at, false
		}
		front := u.byAge.Front()
		oldest := front.Value.(place)
		early := time.Until(oldest.since.Add(grace))
		if early <= 0 {
			u.byAge.Remove(front)
			at = u.byAge.PushBack(place{time.Now(), end})
			u.mu.Unlock()
			oldest.end()
			return at, true
		}
		u.mu.Unlock()
		select {
		case <-u.freed:
		case <-time.After(early):
		}
	}
}

// remove takes out the connection that is at, unless it had to go already.
func (u *unclaimed) remove(at *list.Element) {
	u.mu.Lock()
	u.byAge.Remove(at)
	u.mu.Unlock()
	select {
	case u.freed <- struct{}{}:
	default:
	}
}

// pause is the time to wait between failures in a row: 5 ms, doubled each time up to 1 s.
type pause time.Duration

func (p *pause) reset() { *p = 0 }

// wait blocks for the pause or until done is closed.
func (p *pause) wait(done <-chan struct{}) {
	*p = min(max(*p*2, pause(5*time.Millisecond)), pause(time.Second))
	timer := time.NewTimer(time.Duration(*p))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	}
}
