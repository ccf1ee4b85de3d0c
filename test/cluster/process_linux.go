package cluster

import (
	"os/exec"
	"syscall"
)

// dieWithTest has the kernel kill the process as soon as the thread that started it ends, which is why all are started
// on one thread that lasts as long as the test process; see onStarter.
func dieWithTest(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
