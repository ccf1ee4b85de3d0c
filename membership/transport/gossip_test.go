package transport

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// gossip runs a memberlist node over tr until the test ends.
func gossip(t *testing.T, tr *Transport, name string, key []byte) *memberlist.Memberlist {
	t.Helper()
	cfg := memberlist.DefaultLocalConfig()
	cfg.Name = name
	cfg.Label = "snakes"
	cfg.SecretKey = key
	cfg.Transport = tr
	cfg.Logger = log.New(io.Discard, "", 0)
	cfg.ProbeInterval, cfg.ProbeTimeout = 100*time.Millisecond, 50*time.Millisecond
	cfg.SuspicionMult, cfg.SuspicionMaxTimeoutMult = 1, 1
	cfg.TCPTimeout = time.Second
	cfg.GossipInterval = 20 * time.Millisecond
	m, err := memberlist.Create(cfg)
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := m.Shutdown(); err != nil {
			t.Errorf("shut down %s: %v", name, err)
		}
	})
	return m
}

func join(t *testing.T, m *memberlist.Memberlist, to *Transport) {
	t.Helper()
	if _, err := m.Join([]string{to.Addr().String()}); err != nil {
		t.Fatalf("join: %v", err)
	}
}

func TestMembersGossipWhereRequestsAreServed(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, key := range [][]byte{nil, []byte("0123456789abcdef0123456789abcdef")} {
			t.Run(fmt.Sprintf("%s encrypted=%t", bind, key != nil), func(t *testing.T) {
				var transports []*Transport
				var members []*memberlist.Memberlist
				for i := range 3 {
					name := fmt.Sprint("node-", i)
					tr := listen(t, Config{Bind: bind})
					serve(t, tr, name)
					m := gossip(t, tr, name, key)
					if i > 0 {
						join(t, m, transports[i-1])
					}
					transports, members = append(transports, tr), append(members, m)
					wantAnswer(t, tr, name)
				}
				for i, m := range members {
					eventually(t, fmt.Sprintf("node-%d knows three members", i), func() bool { return m.NumMembers() == 3 })
					self := m.LocalNode()
					if got, want := netip.MustParseAddrPort(self.Address()), transports[i].Addr(); got != want {
						t.Errorf("node-%d advertises %v, want %v", i, got, want)
					}
				}
				for i, tr := range transports {
					eventually(t, fmt.Sprintf("node-%d is probed", i), func() bool { return tr.Stats().Packets > 5 })
					wantAnswer(t, tr, fmt.Sprint("node-", i))
					if got := tr.Stats(); got.PacketsDropped+got.Unknown+got.Silent != 0 {
						t.Errorf("node-%d: got %+v, want all gossip recognized", i, got)
					}
				}
				for i, m := range members {
					if got := m.NumMembers(); got != 3 {
						t.Errorf("node-%d: got %d members, want 3", i, got)
					}
				}
			})
		}
	}
}

func TestShutdownOfGossipLeavesRequests(t *testing.T) {
	tr := listen(t, Config{})
	serve(t, tr, "here")
	early := dial(t, tr, "\xf4\x06snakes") // no memberlist yet: it waits
	m := gossip(t, tr, "a", nil)
	eventually(t, "the waiting stream is claimed", func() bool { return tr.Stats().Streams == 1 })
	wantClosed(t, early) // by memberlist
	for range 2 {
		if err := m.Shutdown(); err != nil {
			t.Fatalf("memberlist shutdown: %v", err)
		}
		if err := tr.Shutdown(); err != nil {
			t.Fatalf("Shutdown: %v", err)
		}
	}
	wantClosed(t, dial(t, tr, "\xf4\x06snakes"))
	wantAnswer(t, tr, "here")
}

func TestAClosedListenerLeavesGossipAndLaterConnectionsToTheNext(t *testing.T) {
	a, b := listen(t, Config{}), listen(t, Config{})
	first, second := gossip(t, a, "a", nil), gossip(t, b, "b", nil)
	closing, next := a.Requests(), a.Requests()
	ended := make(chan error, 1)
	go func() {
		_, err := closing.Accept()
		ended <- err
	}()
	for range 2 {
		if err := closing.Close(); err != nil {
			t.Fatalf("Close of a listener: %v", err)
		}
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept while it is closed: got %v, want net.ErrClosed", err)
	}
	if _, err := closing.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: got %v, want net.ErrClosed", err)
	}
	dial(t, a, "GET")
	wantRead(t, accept(t, next), "GET")
	join(t, second, a)
	eventually(t, "both know both", func() bool { return first.NumMembers() == 2 && second.NumMembers() == 2 })
}

func TestAllowCutsGossipBothWays(t *testing.T) {
	var mu sync.Mutex
	var cut []netip.AddrPort // guarded by mu
	allow := func(remote netip.AddrPort) bool {
		mu.Lock()
		defer mu.Unlock()
		return !slices.Contains(cut, remote)
	}
	set := func(addrs ...netip.AddrPort) {
		mu.Lock()
		defer mu.Unlock()
		cut = addrs
	}
	a, b := listen(t, Config{Allow: allow}), listen(t, Config{})
	serve(t, a, "a")
	first, second := gossip(t, a, "a", nil), gossip(t, b, "b", nil)
	join(t, second, a)
	eventually(t, "a knows b", func() bool { return first.NumMembers() == 2 })

	set(b.Addr())
	if _, err := a.DialTimeout(b.Addr().String(), patience); err == nil {
		t.Error("dial of an address that is cut off: got no error")
	}
	eventually(t, "a has lost b", func() bool { return first.NumMembers() == 1 })
	wantAnswer(t, a, "a")

	set()
	join(t, first, b)
	eventually(t, "a knows b again", func() bool { return first.NumMembers() == 2 })
}

func TestAllowLosesPacketsInEachDirection(t *testing.T) {
	near, far := listen(t, Config{}), listen(t, Config{})
	cut := far.Addr()
	picky := listen(t, Config{Allow: func(remote netip.AddrPort) bool { return remote != cut }})
	send := func(from, to *Transport, content string) {
		t.Helper()
		if _, err := from.WriteTo([]byte("\xf4"+content), to.Addr().String()); err != nil {
			t.Fatalf("packet that may get lost: %v", err)
		}
	}
	wantNext := func(tr *Transport, want string) {
		t.Helper()
		select {
		case p := <-tr.PacketCh():
			if got := string(p.Buf[1:]); got != want {
				t.Errorf("next packet: got %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("no packet in %v, want %q", patience, want)
		}
	}
	send(far, picky, "refused when received")
	send(near, picky, "received")
	wantNext(picky, "received")
	send(picky, far, "refused when sent")
	send(near, far, "sent")
	wantNext(far, "sent")
}

func TestStreamThatAllowRefusesIsClosed(t *testing.T) {
	tr := listen(t, Config{Allow: func(netip.AddrPort) bool { return false }})
	serve(t, tr, "here")
	wantClosed(t, dial(t, tr, "\xf4\x06snakes"))
	wantAnswer(t, tr, "here")
}

func TestGossipByteIsThatOfALabel(t *testing.T) {
	packet, err := memberlist.AddLabelHeaderToPacket([]byte("x"), "snakes")
	if err != nil || packet[0] != gossipByte {
		t.Errorf("got % x, %v; want it to begin with %x", packet, err, gossipByte)
	}
}

func TestPacketWithoutLabelIsNeverSent(t *testing.T) {
	tr := listen(t, Config{})
	for _, b := range [][]byte{nil, {}, []byte("GET"), {0}} {
		if _, err := tr.WriteTo(b, tr.Addr().String()); !errors.Is(err, ErrUnlabelled) {
			t.Errorf("WriteTo(%q): got %v, want ErrUnlabelled", b, err)
		}
	}
}

func TestOnlyGossipPacketsArePassedOn(t *testing.T) {
	tr := listen(t, Config{})
	stranger, err := net.Dial("udp", tr.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	for _, packet := range []string{"", "GET / HTTP/1.1", "\x00", "\xf4 first", "\xff", "\xf4 second"} {
		if _, err := io.WriteString(stranger, packet); err != nil {
			t.Fatal(err)
		}
	}
	var packets []*memberlist.Packet
	for len(packets) < 2 {
		select {
		case p := <-tr.PacketCh():
			packets = append(packets, p)
		case <-time.After(patience):
			t.Fatalf("got %d packets in %v, want 2", len(packets), patience)
		}
	}
	for i, want := range []string{"\xf4 first", "\xf4 second"} { // each in memory of its own
		p := packets[i]
		if got := string(p.Buf); got != want {
			t.Errorf("packet %d: got %q, want %q", i, got, want)
		}
		if got, want := p.From.String(), stranger.LocalAddr().String(); got != want {
			t.Errorf("packet %d: from %s, want %s", i, got, want)
		}
		if age := time.Since(p.Timestamp); age < 0 || age > patience {
			t.Errorf("packet %d: received %v ago", i, age)
		}
	}
	if got := tr.Stats().PacketsDropped; got != 4 {
		t.Errorf("packets dropped: got %d, want 4", got)
	}
}

func TestLargestPacketIsReceivedWhole(t *testing.T) {
	a, b := listen(t, Config{}), listen(t, Config{})
	packet := slices.Repeat([]byte{gossipByte}, 65507)
	if _, err := a.WriteToAddress(packet, memberlist.Address{Addr: b.Addr().String(), Name: "b"}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-b.PacketCh():
		if !slices.Equal(got.Buf, packet) {
			t.Errorf("got %d bytes, want the %d that were sent", len(got.Buf), len(packet))
		}
	case <-time.After(patience):
		t.Fatalf("no packet in %v", patience)
	}
}

func TestAdvertisedAddressIsOneThatOthersReach(t *testing.T) {
	addrs := func(cidrs ...string) []net.Addr {
		var all []net.Addr
		for _, cidr := range cidrs {
			ip, network, err := net.ParseCIDR(cidr)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, &net.IPNet{IP: ip, Mask: network.Mask})
		}
		return all
	}
	tests := []struct {
		ip         string
		port       int
		bound      string
		interfaces []net.Addr
		want       string // "" for an error
	}{
		{"", 7946, "127.0.0.1:9000", nil, "127.0.0.1:9000"},
		{"", 7946, "[::1]:9000", nil, "[::1]:9000"},
		{"192.0.2.7", 80, "127.0.0.1:9000", nil, "192.0.2.7:80"},
		{"192.0.2.7", 0, "0.0.0.0:9000", nil, "192.0.2.7:9000"},
		{"::ffff:192.0.2.7", 0, "0.0.0.0:9000", nil, "192.0.2.7:9000"},
		{"2001:db8::1", 80, "0.0.0.0:9000", nil, "[2001:db8::1]:80"},
		{"example.org", 80, "127.0.0.1:9000", nil, ""},
		{"", 0, "0.0.0.0:9000", addrs("127.0.0.1/8", "198.51.100.4/24", "10.0.0.4/8", "192.168.0.4/16"), "10.0.0.4:9000"},
		{"", 0, "0.0.0.0:9000", addrs("127.0.0.1/8", "198.51.100.4/24"), "198.51.100.4:9000"},
		{"", 0, "0.0.0.0:9000", addrs("127.0.0.1/8", "169.254.0.4/16"), "127.0.0.1:9000"},
		{"", 0, "0.0.0.0:9000", addrs("fd00::4/8", "2001:db8::4/64"), ""},
		{"", 0, "0.0.0.0:9000", nil, ""},
		{"", 0, "[::]:9000", addrs("fe80::4/64", "2001:db8::4/64", "fd00::4/8"), "[fd00::4]:9000"},
		{"", 0, "[::]:9000", addrs("fd00::4/8", "10.0.0.4/8"), "10.0.0.4:9000"},
		{"", 0, "[::]:9000", addrs("::1/128", "fe80::4/64"), "[::1]:9000"},
	}
	for _, test := range tests {
		interfaces := func() ([]net.Addr, error) { return test.interfaces, nil }
		ip, port, err := advertiseAddr(test.ip, test.port, netip.MustParseAddrPort(test.bound), interfaces)
		got := ""
		if err == nil {
			got = net.JoinHostPort(ip.String(), fmt.Sprint(port))
		}
		if got != test.want {
			t.Errorf("advertise %q:%d bound to %s with %v: got %q, %v; want %q",
				test.ip, test.port, test.bound, test.interfaces, got, err, test.want)
		}
	}
}

func TestAdvertisedAddressFailsWithTheInterfaces(t *testing.T) {
	broken := errors.New("no interfaces")
	_, _, err := advertiseAddr("", 0, netip.MustParseAddrPort("0.0.0.0:9000"), func() ([]net.Addr, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
