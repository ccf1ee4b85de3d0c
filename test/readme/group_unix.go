//go:build unix

package readme

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// ownGroup puts the process and all that it will start into a process group of their own.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// killGroup kills the group that ownGroup made. One that is gone is no error.
func killGroup(p *os.Process) error {
	if err := syscall.Kill(-p.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
