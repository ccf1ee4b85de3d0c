package cluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
)

// Ports come from below the ranges that Linux (32768), macOS and Windows (49152) give to outgoing connections: one of
// those could otherwise sit on a node's port just when the node is down and about to start again.
const (
	firstPort = 16000
	lastPort  = 32000
	blockSize = 100
)

// ports hands out ports of blocks that this process holds.
type ports struct {
	mu sync.Mutex // guards all fields

	// guard listens on the block's first port. That is how other test processes know that the block is taken; it is
	// closed by the end of the process, so that a crash frees the block.
	guards []net.Listener
	next   int // next port to try
	end    int // first port beyond the block
}

var processPorts ports

// free returns a port that is free for TCP and UDP on the loopback address and that no call has returned before. Ports
// are not taken back: the members of an ended cluster may still be remembered by a slow neighbour.
func (p *ports) free() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.next == p.end {
			if err := p.claim(); err != nil {
				return 0, err
			}
		}
		port := p.next
		p.next++
		if portIsFree(port) {
			return port, nil
		}
	}
}

// claim takes the next block that no other process holds. It starts at a place of the process's own, so that test
// processes seldom compete.
func (p *ports) claim() error {
	const blocks = (lastPort - firstPort) / blockSize
	var last error
	for i := range blocks {
		base := firstPort + (os.Getpid()*7+i)%blocks*blockSize
		guard, err := net.Listen("tcp", loopback(base))
		if err != nil {
			last = err
			continue
		}
		p.guards = append(p.guards, guard)
		p.next, p.end = base+1, base+blockSize
		return nil
	}
	return fmt.Errorf("no free block of ports between %d and %d: %w", firstPort, lastPort, last)
}

// portIsFree says whether port can be listened on by TCP and UDP on the loopback address now.
func portIsFree(port int) bool {
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	u, err := net.ListenPacket("udp", loopback(port))
	if err != nil {
		// The port is unusable whatever Close says.
		_ = l.Close()
		return false
	}
	return errors.Join(l.Close(), u.Close()) == nil
}

func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
