//go:build !linux

package cluster

import (
	"os"
	"os/exec"
)

// dieWithTest does nothing here: only the tests' cleanup ends the processes.
func dieWithTest(*exec.Cmd) {}

// awaitFrozen waits for nothing here: the process may run on for a moment.
func awaitFrozen(*os.Process) error { return nil }
