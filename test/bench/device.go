//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// device is the block device that has the data. What it counts is all that is written to it, by anybody, and by the file
// system for its own journal. What the kernel counts for each process is of no use here: on file systems with large
// folios, one page that is made dirty counts as up to 2 MiB.
type device struct {
	dir  string
	stat string // the file with its counters
}

// sectorSize is that of the kernel's counters, whatever the device's own is.
const sectorSize = 512

// deviceOf returns the device of dir's file system, nil if it has none of its own, as overlays and btrfs.
func deviceOf(dir string) (*device, error) {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return nil, fmt.Errorf("device of the data: %w", err)
	}
	d := &device{dir: dir, stat: fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(s.Dev), unix.Minor(s.Dev))}
	if _, err := os.Stat(d.stat); err != nil {
		return nil, nil
	}
	return d, nil
}

// written has everything on the file system written to the device, and returns how many bytes were written to it since
// the machine started.
func (d *device) written() (uint64, error) {
	dir, err := os.Open(d.dir)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return 0, fmt.Errorf("syncfs: %w", err)
	}
	text, err := os.ReadFile(d.stat)
	if err != nil {
		return 0, err
	}
	return parseDevice(string(text))
}

// parseDevice returns the bytes written of /sys/dev/block/*/stat, Documentation/block/stat.rst.
func parseDevice(text string) (uint64, error) {
	fields := strings.Fields(text)
	if len(fields) < 11 {
		return 0, fmt.Errorf("counters of the device: %d fields", len(fields))
	}
	sectors, err := strconv.ParseUint(fields[6], 10, 54)
	if err != nil {
		return 0, fmt.Errorf("counters of the device: %w", err)
	}
	return sectors * sectorSize, nil
}
