//go:build unix

package node

import "syscall"

// openFiles returns how many files and connections this process may have open: as many as the system lets it raise that number
// to, which the Go runtime did at the start.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // which every system grants
	}
	return int(min(uint64(limit.Cur), 1<<30))
}
