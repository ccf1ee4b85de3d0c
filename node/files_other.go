//go:build !unix

package node

// openFiles returns how many files and connections this process may have open; here the system sets no such limit.
func openFiles() int { return 4 * maxConnections }
