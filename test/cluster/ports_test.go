package cluster

import (
	"net"
	"testing"
)

func TestPortsAreNeverHandedOutTwice(t *testing.T) {
	t.Parallel()
	// Two holders stand for two test processes.
	var one, two ports
	t.Cleanup(func() {
		for _, l := range append(one.guards, two.guards...) {
			_ = l.Close()
		}
	})
	seen := make(map[int]bool)
	for range blockSize + 10 { // more than a block
		for _, p := range []*ports{&one, &two} {
			port, err := p.free()
			if err != nil {
				t.Fatal(err)
			}
			if seen[port] {
				t.Fatalf("port %d handed out twice", port)
			}
			if port < firstPort || port >= lastPort {
				t.Fatalf("port %d, want one from %d to %d", port, firstPort, lastPort-1)
			}
			seen[port] = true
		}
	}
}

func TestPortTakenByTCPOrUDPIsNotFree(t *testing.T) {
	t.Parallel()
	port, err := processPorts.free()
	if err != nil {
		t.Fatal(err)
	}
	if !portIsFree(port) {
		t.Fatalf("port %d is not free just after it was handed out", port)
	}
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		t.Fatal(err)
	}
	if portIsFree(port) {
		t.Error("a port taken by TCP counts as free")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", loopback(port))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if portIsFree(port) {
		t.Error("a port taken by UDP counts as free")
	}
}
