package cluster

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithTest has the kernel kill the process as soon as the thread that started it ends, which is why all are started
// on one thread that lasts as long as the test process; see onStarter.
func dieWithTest(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// awaitFrozen waits until every thread of a child that was told to freeze stands still, or the child has ended: the
// signal alone returns before. WNOWAIT leaves the child's status to whoever waits for its end.
func awaitFrozen(p *os.Process) error {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return os.NewSyscallError("waitid", err)
		}
	}
}
