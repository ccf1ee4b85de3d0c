//go:build !unix

package readme

import (
	"os"
	"os/exec"
)

// ownGroup does nothing here: there are no process groups.
func ownGroup(*exec.Cmd) {}

// killGroup kills the process alone.
func killGroup(p *os.Process) error { return p.Kill() }
