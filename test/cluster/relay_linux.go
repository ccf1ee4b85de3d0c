package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// relay carries all packets between nodes, each of which has a TUN device for a network. The kernel does the rest: TCP finds
// out what a way does to its packets as it would on a real one.
type relay struct {
	readers sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	devices []*os.File
	ways    map[[2]int]Way // by sender and receiver; all others are good
	random  *rand.Rand
	gossip  map[flow]bool // TCP connections that said something: whether that was gossip
}

// flow is a TCP connection: who began it, and whom with.
type flow struct{ from, to netip.AddrPort }

const (
	// relayPacket is more than the largest packet of a device.
	relayPacket = 4 << 10
	// gossipMark is the first byte of a connection that is memberlist's.
	gossipMark = 0xF4
	// overtaken is by how much a packet is late that others overtake.
	overtaken = 5 * time.Millisecond

	protocolTCP = 6
	protocolUDP = 17
)

func newRelay(seed uint64) *relay {
	return &relay{ways: map[[2]int]Way{}, gossip: map[flow]bool{}, random: rand.New(rand.NewPCG(seed, 2))}
}

// plug makes the device of the next node, named eth0, in its namespace.
func (r *relay) plug(ns *namespace) error {
	var fd int
	err := ns.do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return os.NewSyscallError("open /dev/net/tun", err)
		}
		request, err := unix.NewIfreq("eth0")
		if err == nil {
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = os.NewSyscallError("TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
		}
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("a TUN device: %w", err)
	}
	device := os.NewFile(uintptr(fd), "tun")
	r.mu.Lock()
	from := len(r.devices)
	r.devices = append(r.devices, device)
	r.mu.Unlock()
	r.readers.Go(func() { r.carry(from, device) })
	return nil
}

// carry passes on what one node sends, until its device is closed.
func (r *relay) carry(from int, device *os.File) {
	buffer := make([]byte, relayPacket)
	for {
		n, err := device.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil { // the device is down, as it is at first
			time.Sleep(time.Millisecond)
			continue
		}
		if to, delays := r.route(from, buffer[:n]); len(delays) > 0 {
			send(to, buffer[:n], delays)
		}
	}
}

// send writes a packet after each of the delays. It goes to nobody if the device was closed, and a full queue loses it, as in
// any network.
func send(to *os.File, packet []byte, delays []time.Duration) {
	for _, delay := range delays {
		if delay == 0 {
			_, _ = to.Write(packet)
			continue
		}
		late := append([]byte(nil), packet...)
		time.AfterFunc(delay, func() { _, _ = to.Write(late) })
	}
}

// route says where a packet goes and after which delays: none if it is lost, several if it is doubled.
func (r *relay) route(from int, packet []byte) (device *os.File, delays []time.Duration) {
	p, ok := parsePacket(packet)
	if !ok {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	to := int(p.to.Addr().As4()[3]) - 1
	if to < 0 || to >= len(r.devices) {
		return nil, nil
	}
	gossip, told := r.classify(p)
	w, shaped := r.ways[[2]int{from, to}]
	if !shaped {
		return r.devices[to], []time.Duration{0}
	}
	chance := func(probability float64) bool { return probability > 0 && r.random.Float64() < probability }
	switch {
	case w.NoUDP && p.protocol == protocolUDP,
		w.NoGossip && (p.protocol == protocolUDP || told && gossip),
		w.NoHTTP && told && !gossip,
		w.MTU > 0 && len(packet) > w.MTU,
		chance(w.Loss):
		return nil, nil
	}
	delay := w.Delay
	if w.Jitter > 0 {
		delay += time.Duration(r.random.Int64N(int64(w.Jitter)))
	}
	if chance(w.Overtaken) {
		delay += overtaken
	}
	delays = []time.Duration{delay}
	if chance(w.Doubled) {
		delays = append(delays, delay+time.Duration(r.random.Int64N(int64(overtaken))))
	}
	return r.devices[to], delays
}

// classify reports what kind of connection a packet belongs to, if that has been told yet: by the first byte that whoever began it
// sent. r.mu is held.
func (r *relay) classify(p packet) (gossip, told bool) {
	if p.protocol != protocolTCP {
		return false, false
	}
	f := flow{p.from, p.to}
	if p.begins {
		delete(r.gossip, f) // an old connection between the same ports
	}
	if gossip, told = r.gossip[f]; told {
		return gossip, true
	}
	if gossip, told = r.gossip[flow{p.to, p.from}]; told || len(p.payload) == 0 {
		return gossip, told
	}
	r.gossip[f] = p.payload[0] == gossipMark
	return r.gossip[f], true
}

// shape sets what happens to packets from one node to another.
func (r *relay) shape(from, to int, w Way) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ways[[2]int{from, to}] = w
}

// heal makes all ways good.
func (r *relay) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.ways)
}

func (r *relay) close() error {
	var errs []error
	for _, device := range r.devices {
		errs = append(errs, device.Close())
	}
	r.readers.Wait()
	return errors.Join(errs...)
}

// packet is what the relay looks at in one of IPv4.
type packet struct {
	protocol byte
	from, to netip.AddrPort
	begins   bool // a TCP connection
	payload  []byte
}

// parsePacket reads the headers. Fragments pass for packets without ports.
func parsePacket(data []byte) (p packet, ok bool) {
	if len(data) < 20 || data[0]>>4 != 4 {
		return p, false
	}
	header := int(data[0]&15) * 4
	source, destination := netip.AddrFrom4([4]byte(data[12:16])), netip.AddrFrom4([4]byte(data[16:20]))
	p = packet{protocol: data[9], from: netip.AddrPortFrom(source, 0), to: netip.AddrPortFrom(destination, 0)}
	if body := data[min(header, len(data)):]; len(body) >= 4 {
		p.from = netip.AddrPortFrom(source, binary.BigEndian.Uint16(body))
		p.to = netip.AddrPortFrom(destination, binary.BigEndian.Uint16(body[2:]))
		if p.protocol == protocolTCP && len(body) >= 20 {
			const syn, ack = 2, 16
			p.begins = body[13]&(syn|ack) == syn
			p.payload = body[min(int(body[12]>>4)*4, len(body)):]
		}
	}
	return p, true
}
