package transport

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	maxPacketBytes     = 64 << 10 // more than a UDP datagram can carry
	receiveBufferBytes = 2 << 20  // room for a burst of gossip while memberlist decrypts
)

// ErrUnlabelled is returned by WriteTo and WriteToAddress for a packet without memberlist's label
// header, which every receiver would drop: the memberlist configuration lacks a Label.
var ErrUnlabelled = errors.New("gossip without a label")

var errNotAllowed = errors.New("gossip with this address is not allowed")

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// WriteTo sends b as one packet to addr, an IP address and port, and returns when. It does not
// keep b and waits for nobody. Success means only that the packet was sent.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	if len(b) == 0 || b[0] != gossipByte {
		return time.Time{}, ErrUnlabelled
	}
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return time.Time{}, err
	}
	if t.cfg.Allow(unmap(to.AddrPort())) {
		_, err = t.udp.WriteToUDP(b, to)
	}
	return time.Now(), err
}

// WriteToAddress is WriteTo; the name of the node is not needed.
func (t *Transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// PacketCh returns the channel of received packets, for memberlist to read. It is never closed. Receivers
// own the packets.
func (t *Transport) PacketCh() <-chan *memberlist.Packet {
	return t.packets
}

// DialTimeout opens a stream to addr, an IP address and port, within timeout. After Shutdown it fails with
// an error that wraps [net.ErrClosed].
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	if t.gossip.hasEnded() {
		return nil, fmt.Errorf("dial %s: %w", addr, net.ErrClosed)
	}
	to, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	if !t.cfg.Allow(unmap(to.AddrPort())) {
		return nil, fmt.Errorf("dial %s: %w", addr, errNotAllowed)
	}
	return net.DialTimeout("tcp", to.String(), timeout)
}

// DialAddressTimeout is DialTimeout; the name of the node is not needed.
func (t *Transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// StreamCh returns the channel of accepted streams, for memberlist to read. It is never closed.
// Receivers own the connections and set their deadlines.
func (t *Transport) StreamCh() <-chan net.Conn {
	return t.gossip.conns
}

// Shutdown ends gossip and returns when the last packet was received; requests go on until Close. It is
// for memberlist, which calls it first when it shuts down. Later calls do nothing. It never fails.
func (t *Transport) Shutdown() error {
	t.gossip.end()
	_ = t.udp.Close() // what it still holds is gossip that nobody wants; closed before is fine too
	t.packetLoop.Wait()
	return nil
}

// readPackets hands packets to memberlist until Shutdown.
func (t *Transport) readPackets() {
	var pause pause
	buf := make([]byte, maxPacketBytes)
	for {
		n, from, err := t.udp.ReadFromUDP(buf)
		received := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.logger.Warn("packet not received", "error", err)
			pause.wait(t.gossip.ended)
			continue
		}
		pause.reset()
		if n == 0 || buf[0] != gossipByte {
			t.counts.packetsDropped.Add(1)
			t.logger.Debug("packet of unknown kind dropped", "remote", from, "bytes", n)
			continue
		}
		if !t.cfg.Allow(unmap(from.AddrPort())) {
			continue
		}
		// memberlist keeps parts of packets in its queues, so each gets memory of its own, of its size.
		packet := &memberlist.Packet{Buf: bytes.Clone(buf[:n]), From: from, Timestamp: received}
		select {
		case t.packets <- packet:
			t.counts.packets.Add(1)
		case <-t.gossip.ended:
			return
		}
	}
}

// enlargeReceiveBuffer asks for less and less until the system agrees.
func enlargeReceiveBuffer(udp *net.UDPConn) error {
	var err error
	for size := receiveBufferBytes; size >= maxPacketBytes; size /= 2 {
		if err = udp.SetReadBuffer(size); err == nil {
			return nil
		}
	}
	return err
}
