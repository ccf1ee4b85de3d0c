package transport

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// owner claims the connections of one kind, until it has ended.
type owner struct {
	conns   chan net.Conn
	ended   chan struct{}
	end     func() // closes ended, once
	claimed atomic.Uint64
}

func newOwner() *owner {
	o := &owner{conns: make(chan net.Conn), ended: make(chan struct{})}
	o.end = sync.OnceFunc(func() { close(o.ended) })
	return o
}

func (o *owner) hasEnded() bool {
	select {
	case <-o.ended:
		return true
	default:
		return false
	}
}

// offer waits until conn is claimed, and reports false if o or ctx ended before that.
func (o *owner) offer(ctx context.Context, conn net.Conn) bool {
	if o.hasEnded() {
		return false
	}
	select {
	case o.conns <- conn:
		o.claimed.Add(1)
		return true
	case <-o.ended:
		return false
	case <-ctx.Done():
		return false
	}
}

// listener is an owner's connections as a net.Listener. Several of one owner share what comes.
type listener struct {
	*owner
	addr   net.Addr
	closed chan struct{}
	close  func() // closes closed, once
}

func newListener(of *owner, addr net.Addr) listener {
	l := listener{owner: of, addr: addr, closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	if !l.hasEnded() && !l.isClosed() {
		select {
		case conn := <-l.conns:
			return conn, nil
		case <-l.closed:
		case <-l.ended:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
}

func (l listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// Close implements net.Listener.
func (l listener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l listener) Addr() net.Addr { return l.addr }
