package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

// portTries bounds the search for a port number that is free for both TCP and UDP. One try fails only
// if another process holds the UDP port of a number that the kernel just gave for TCP.
const portTries = 32

// Transport is one open TCP and UDP port, shared by gossip and requests. It implements
// [memberlist.NodeAwareTransport]. All methods are safe for concurrent use.
type Transport struct {
	cfg    Config
	logger hclog.Logger
	tcp    *net.TCPListener
	udp    *net.UDPConn

	gossip     *owner // of streams; packets end with it
	packets    chan *memberlist.Packet
	packetLoop sync.WaitGroup

	requests    *owner
	unclaimed   *unclaimed
	connections sync.WaitGroup // the accept loop and the goroutine of each unclaimed connection

	// stop ends the accept loop's pauses and closes all unclaimed connections.
	stop     context.CancelFunc
	close    func() error
	closeTCP func() error

	counts counts
}

// Listen opens the TCP and the UDP port that cfg.Bind names, and accepts connections and packets until
// Close. It blocks only to resolve a name in cfg.Bind. The error names the protocol and the port that
// could not be had, and wraps the system's error.
func Listen(cfg Config) (*Transport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	bind, err := net.ResolveTCPAddr("tcp", cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("bind address %q: %w", cfg.Bind, err)
	}
	tcp, udp, err := listenBoth(bind, net.ListenUDP)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	ctx, stop := context.WithCancel(context.Background())
	t := &Transport{
		cfg:       cfg,
		logger:    cfg.Logger.Named("transport"),
		tcp:       tcp,
		udp:       udp,
		gossip:    newOwner(),
		packets:   make(chan *memberlist.Packet),
		requests:  newOwner(),
		unclaimed: newUnclaimed(cfg.MaxUnclaimed),
		stop:      stop,
	}
	t.closeTCP = sync.OnceValue(tcp.Close)
	t.close = sync.OnceValue(t.closeAll)
	if err := enlargeReceiveBuffer(udp); err != nil {
		t.logger.Warn("udp receive buffer not enlarged", "error", err)
	}
	t.packetLoop.Go(t.readPackets)
	t.connections.Go(func() { t.acceptAll(ctx, tcp.AcceptTCP) })
	return t, nil
}

// listenBoth opens bind's port for TCP and UDP. For port 0 it tries until the port that TCP got is free
// for UDP too.
func listenBoth(
	bind *net.TCPAddr, listenUDP func(network string, addr *net.UDPAddr) (*net.UDPConn, error),
) (*net.TCPListener, *net.UDPConn, error) {
	family := "" // both, where the address means both
	if bind.IP.To4() != nil {
		family = "4"
	}
	for try := 1; ; try++ {
		tcp, err := net.ListenTCP("tcp"+family, bind)
		if err != nil {
			return nil, nil, fmt.Errorf("tcp port %d: %w", bind.Port, err)
		}
		port := tcp.Addr().(*net.TCPAddr).Port
		udp, err := listenUDP("udp"+family, &net.UDPAddr{IP: bind.IP, Port: port, Zone: bind.Zone})
		if err == nil {
			return tcp, udp, nil
		}
		_ = tcp.Close() // nothing was accepted
		if bind.Port != 0 || try == portTries {
			return nil, nil, fmt.Errorf("udp port %d: %w", port, err)
		}
	}
}

// Addr returns the address and port that the transport listens on, for TCP and UDP alike. The address
// is unspecified if it listens on all.
func (t *Transport) Addr() netip.AddrPort {
	return unmap(t.tcp.Addr().(*net.TCPAddr).AddrPort())
}

// Requests returns a listener of the connections that are not gossip; those of several calls share them. Its connections
// support CloseWrite, deadlines and keep-alive as a [net.TCPConn] does. Closing it ends its Accept with [net.ErrClosed] and nothing
// else: later request connections go to, or wait for, another listener, until Close.
func (t *Transport) Requests() net.Listener {
	return newListener(t.requests, t.tcp.Addr())
}

// StopAccepting closes the port to new connections; gossip by UDP and the connections that there are go on. Calling it again
// does nothing.
func (t *Transport) StopAccepting() error { return t.closeTCP() }

// Close ends gossip and requests, closes the port and all unclaimed connections, and returns when all
// goroutines of the transport have ended. Claimed connections stay open; they belong to those who
// claimed them. Later calls wait for the first and return what it returned.
func (t *Transport) Close() error {
	return t.close()
}

func (t *Transport) closeAll() error {
	t.stop()
	err := t.closeTCP()
	t.requests.end()
	_ = t.Shutdown() // never fails
	t.connections.Wait()
	return err
}

// Stats counts what a Transport has seen since Listen.
type Stats struct {
	Streams        uint64 // gossip connections claimed
	Requests       uint64 // request connections claimed
	Silent         uint64 // connections closed because no byte came, in time or before their end
	Unknown        uint64 // connections closed for their first byte
	Crowded        uint64 // unclaimed connections closed to make room for newer ones
	AcceptErrors   uint64 // failures to accept, such as too many open files
	Packets        uint64 // gossip packets handed to memberlist
	PacketsDropped uint64 // packets that were not gossip
}

type counts struct {
	silent, unknown, crowded, acceptErrors, packets, packetsDropped atomic.Uint64
}

// Stats returns the counts so far, each of which only grows.
func (t *Transport) Stats() Stats {
	c := &t.counts
	return Stats{
		Streams:        t.gossip.claimed.Load(),
		Requests:       t.requests.claimed.Load(),
		Silent:         c.silent.Load(),
		Unknown:        c.unknown.Load(),
		Crowded:        c.crowded.Load(),
		AcceptErrors:   c.acceptErrors.Load(),
		Packets:        c.packets.Load(),
		PacketsDropped: c.packetsDropped.Load(),
	}
}

// unmap turns an IPv4 address in IPv6 clothing, as sockets of both families give it, into plain IPv4.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
