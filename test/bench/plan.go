//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/protocol7/snakes/node/client/load"
)

const (
	baseSize        = 256
	baseConnections = 64
)

// cell is one workload, the same for every system.
type cell struct {
	op          load.Op
	level       string // r or w, or both for a mix
	size        int
	connections int
	fresh       bool // each key is new; otherwise they have values
	down        bool // one of three is not running
}

// name tells a cell from all others.
func (c cell) name() string {
	var b strings.Builder
	b.WriteString(c.op.String())
	switch c.op {
	case load.Get:
		b.WriteString(" r=" + c.level)
	case load.Mix:
		b.WriteString(" 95/5 zipf r=w=" + c.level)
	default:
		b.WriteString(" w=" + c.level)
	}
	fmt.Fprintf(&b, ", %s, %d conn", bytesText(c.size), c.connections)
	if c.fresh {
		b.WriteString(", fresh keys")
	}
	if c.down {
		b.WriteString(", one of three down")
	}
	return b.String()
}

// suits reports whether a system can do this, or something that deserves the comparison.
func (c cell) suits(system string) bool {
	switch system {
	case "etcd": // has no write that one member alone acknowledges
		return c.op == load.Get || c.level != "1"
	case "closed": // to be compared in what nodes say to each other
		return c.op == load.Put && c.level == "3" && c.size == baseSize && c.connections == baseConnections && !c.fresh && !c.down
	case "bare": // one process that answers one size
		return !c.down && !c.fresh && c.size == baseSize && c.op != load.Mix && (c.op == load.Get && c.level == "1" || c.op == load.Put && c.level == "3")
	}
	return true
}

// keys returns how many keys the loads of a size share: all, or for other sizes than the usual one fewer, so that a fill
// takes no longer and needs no more memory than the measurement is worth.
func keys(size, all int) uint64 {
	if size == baseSize {
		return uint64(all)
	}
	return uint64(min(all, 10_000, max(64, 64<<20/max(size, 1))))
}

// prefix returns what the keys of a cell begin with.
func (c cell) prefix() string {
	if c.fresh {
		return fmt.Sprintf("fresh%dx", c.size)
	}
	return fmt.Sprintf("key%dx", c.size)
}

// plan returns the cells, those with one node down last.
func plan(sizes, connections []int) []cell {
	var cells []cell
	for _, n := range connections {
		cells = append(cells,
			cell{op: load.Put, level: "3", size: baseSize, connections: n},
			cell{op: load.Get, level: "3", size: baseSize, connections: n},
			cell{op: load.Get, level: "1", size: baseSize, connections: n},
		)
	}
	cells = append(cells,
		cell{op: load.Put, level: "3", size: baseSize, connections: baseConnections, fresh: true},
		cell{op: load.Put, level: "quorum", size: baseSize, connections: baseConnections},
		cell{op: load.Put, level: "1", size: baseSize, connections: baseConnections},
		cell{op: load.Mix, level: "3", size: baseSize, connections: baseConnections},
	)
	for _, size := range sizes {
		if size != baseSize {
			cells = append(cells,
				cell{op: load.Put, level: "3", size: size, connections: baseConnections},
				cell{op: load.Get, level: "3", size: size, connections: baseConnections},
			)
		}
	}
	return append(cells,
		cell{op: load.Put, level: "quorum", size: baseSize, connections: baseConnections, down: true},
		cell{op: load.Get, level: "quorum", size: baseSize, connections: baseConnections, down: true},
	)
}

// bytesText is 256 B or 16 KiB.
func bytesText(n int) string {
	if n >= 1024 && n%1024 == 0 {
		return fmt.Sprintf("%d KiB", n/1024)
	}
	return fmt.Sprintf("%d B", n)
}
