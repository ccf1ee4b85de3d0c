//go:build linux

package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// relay stands before a server and passes on what comes over TCP and UDP, late. What the server sends comes back at
// once: a round trip is longer by one delay.
type relay struct {
	delay  atomic.Int64 // time.Duration
	to     string
	tcp    net.Listener
	udp    net.PacketConn
	end    context.CancelFunc
	work   sync.WaitGroup
	window chan struct{} // bounds the UDP packets on their way
}

// chunk is what arrived, and when it is to be passed on.
type chunk struct {
	data []byte
	due  time.Time
}

const (
	// relayChunks bounds what is on its way on one connection, in chunks of up to relayChunk bytes; beyond it the
	// sender waits, as TCP makes it.
	relayChunks = 1024
	relayChunk  = 16 << 10
	// relayPackets bounds the packets on their way; beyond it they are lost, as UDP packets are.
	relayPackets = 1024
)

// newRelay listens at one address for TCP and UDP, and passes on to another one until close.
func newRelay(at, to string) (*relay, error) {
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenPacket("udp", at)
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	ctx, end := context.WithCancel(context.Background())
	r := &relay{to: to, tcp: tcp, udp: udp, end: end, window: make(chan struct{}, relayPackets)}
	r.work.Go(func() { r.accept(ctx) })
	r.work.Go(func() { r.packets(ctx) })
	return r, nil
}

// close closes all connections and waits until nothing is left.
func (r *relay) close() {
	r.end()
	_, _ = r.tcp.Close(), r.udp.Close() // nothing that matters is in them
	r.work.Wait()
}

func (r *relay) due() time.Time { return time.Now().Add(time.Duration(r.delay.Load())) }

func (r *relay) accept(ctx context.Context) {
	for {
		from, err := r.tcp.Accept()
		if err != nil {
			return
		}
		r.work.Go(func() {
			defer from.Close()
			var dialer net.Dialer
			to, err := dialer.DialContext(ctx, "tcp", r.to)
			if err != nil {
				return // the other side sees its connection closed
			}
			defer to.Close()
			defer context.AfterFunc(ctx, func() { _, _ = from.Close(), to.Close() })()
			r.work.Go(func() {
				r.late(to, from)
				_, _ = from.Close(), to.Close()
			})
			buffer := make([]byte, relayChunk)
			for {
				n, err := to.Read(buffer)
				if _, writeErr := from.Write(buffer[:n]); err != nil || writeErr != nil {
					return
				}
			}
		})
	}
}

// late passes on from one connection to another until either fails.
func (r *relay) late(to, from net.Conn) {
	chunks := make(chan chunk, relayChunks)
	r.work.Go(func() {
		defer close(chunks)
		for {
			data := make([]byte, relayChunk)
			n, err := from.Read(data)
			if n > 0 {
				chunks <- chunk{data[:n], r.due()} // late takes all there are
			}
			if err != nil {
				return
			}
		}
	})
	failed := false
	for c := range chunks {
		if failed {
			continue // only until the reader has noticed
		}
		time.Sleep(time.Until(c.due))
		if _, err := to.Write(c.data); err != nil {
			failed = true
			_ = from.Close() // wakes the reader
		}
	}
}

func (r *relay) packets(ctx context.Context) {
	to, err := net.Dial("udp", r.to)
	if err != nil {
		return
	}
	var late sync.WaitGroup
	defer func() {
		late.Wait()
		_ = to.Close() // nothing that matters is in it
	}()
	for {
		data := make([]byte, 64<<10)
		n, _, err := r.udp.ReadFrom(data)
		if err != nil {
			return
		}
		select {
		case r.window <- struct{}{}:
		default:
			continue
		}
		due := r.due()
		late.Go(func() {
			defer func() { <-r.window }()
			if sleepUntil(ctx, due) {
				_, _ = to.Write(data[:n]) // a packet may be lost
			}
		})
	}
}

func sleepUntil(ctx context.Context, due time.Time) bool { return pause(ctx, time.Until(due)) == nil }
