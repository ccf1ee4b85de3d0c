package cluster

import (
	"encoding/binary"
	"testing"
	"time"
)

// ipv4 makes a packet between nodes: of UDP without flags, else of TCP.
func ipv4(from, to byte, fromPort, toPort uint16, flags byte, payload string) []byte {
	p := make([]byte, 20, 64)
	p[0], p[9] = 4<<4|5, protocolUDP
	copy(p[12:], []byte{10, 77, 0, from + 1})
	copy(p[16:], []byte{10, 77, 0, to + 1})
	p = binary.BigEndian.AppendUint16(p, fromPort)
	p = binary.BigEndian.AppendUint16(p, toPort)
	if flags == 0 {
		return append(append(p, 0, 0, 0, 0), payload...)
	}
	p[9] = protocolTCP
	return append(append(p, 0, 0, 0, 0, 0, 0, 0, 0, 5<<4, flags, 0, 0, 0, 0, 0, 0), payload...)
}

func TestRelayTellsGossipFromHTTP(t *testing.T) {
	const syn, ack = 2, 16
	for _, c := range []struct {
		name   string
		way    Way
		passes map[string]bool
	}{
		{"good", Way{}, map[string]bool{"gossip": true, "http": true, "udp": true}},
		{"no HTTP", Way{NoHTTP: true}, map[string]bool{"gossip": true, "http": false, "udp": true}},
		{"no gossip", Way{NoGossip: true}, map[string]bool{"gossip": false, "http": true, "udp": false}},
		{"no UDP", Way{NoUDP: true}, map[string]bool{"gossip": true, "http": true, "udp": false}},
		{"nothing", Way{Loss: 1}, map[string]bool{"gossip": false, "http": false, "udp": false}},
		{"small packets", Way{MTU: 45}, map[string]bool{"gossip": true, "http": false, "udp": true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRelay(1)
			r.devices = append(r.devices, nil, nil)
			passes := func(packet []byte) bool {
				_, delays := r.route(int(packet[15])-1, packet)
				return len(delays) > 0
			}
			if !passes(ipv4(0, 1, 5000, 9000, syn, "")) || !passes(ipv4(0, 1, 5001, 9000, syn, "")) {
				t.Fatal("a connection does not begin")
			}
			for _, way := range [][2]int{{0, 1}, {1, 0}} {
				r.shape(way[0], way[1], c.way)
			}
			for name, packet := range map[string][]byte{
				"gossip": ipv4(0, 1, 5000, 9000, ack, "\xf4abc"), "http": ipv4(0, 1, 5001, 9000, ack, "PUT /foo"), "udp": ipv4(0, 1, 9000, 9000, 0, "\xf4abc"),
			} {
				if got, want := passes(packet), c.passes[name]; got != want {
					t.Errorf("%s passes: %t, want %t", name, got, want)
				}
			}
			if answer := ipv4(1, 0, 9000, 5001, ack, ""); c.way.NoHTTP && passes(answer) {
				t.Error("an answer of HTTP passes")
			}
		})
	}
}

func TestRelayDelaysAndDoubles(t *testing.T) {
	r := newRelay(1)
	r.devices = append(r.devices, nil, nil)
	r.shape(0, 1, Way{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Doubled: 0.5, Overtaken: 0.5})
	doubled, overtakenBy := 0, 0
	const packets = 1000
	for range packets {
		_, delays := r.route(0, ipv4(0, 1, 9000, 9000, 0, "x"))
		if len(delays) == 2 {
			doubled++
		}
		if delays[0] > 30*time.Millisecond {
			overtakenBy++
		}
		if delays[0] < 20*time.Millisecond || delays[0] > 30*time.Millisecond+overtaken {
			t.Fatalf("a packet is delayed by %v", delays[0])
		}
	}
	if doubled < packets/3 || doubled > packets*2/3 || overtakenBy == 0 {
		t.Errorf("of %d packets %d are doubled and %d late, want half of them and some", packets, doubled, overtakenBy)
	}
}
