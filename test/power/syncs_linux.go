package power

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syncCalls are the system calls that make something durable, by the words for them.
var syncCalls = map[uint32]string{
	unix.SYS_FDATASYNC: "sync",
	unix.SYS_FSYNC:     "syncdir", // the store uses it for directories only
	unix.SYS_SYNCFS:    "syncall",
}

// step is a sync that a node is about to do: "sync journal/0000000000000001".
type step struct {
	op   string
	name string // relative to the data directory, "." for that itself
}

// String implements fmt.Stringer.
func (s step) String() string { return s.op + " " + s.name }

// The environment of a node that is watched: the program to run, and the socket to send the
// listener of its system calls to.
const (
	programVariable = "POWER_PROGRAM"
	socketVariable  = "POWER_SOCKET"
)

// becomeNode makes this process the node that the environment names, with its syncs watched. The
// caller has locked its thread.
func becomeNode() error {
	listener, err := installFilter()
	if err != nil {
		return err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: os.Getenv(socketVariable)})
	if err != nil {
		return err
	}
	if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(listener), nil); err != nil {
		return err
	}
	program := os.Getenv(programVariable)
	args := append([]string{program}, os.Args[1:]...)
	return os.NewSyscallError("execve", unix.Exec(program, args, os.Environ()))
}

// installFilter has each sync of this thread, and of the program that it executes, wait for an
// answer of whoever has the file that it returns (seccomp_unotify(2)).
func installFilter() (listener int, err error) {
	const loadNumber = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	filter := []unix.SockFilter{{Code: loadNumber}} // the number is the first field of struct seccomp_data
	for number := range syncCalls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: number},
			unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return 0, os.NewSyscallError("seccomp", errno)
	}
	return int(fd), nil
}

// watch is told of the syncs of all processes that a node is, one after the other.
type watch struct {
	socket *net.UnixListener
	data   string // the data directory
	wg     sync.WaitGroup

	mu  sync.Mutex             // held while on is called
	on  func(step) (skip bool) // nil: nobody wants to know
	err error                  // why it sees nothing more
}

// newWatch listens at a socket in dir until close.
func newWatch(dir, data string) (*watch, error) {
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "socket")})
	if err != nil {
		return nil, err
	}
	w := &watch{socket: socket, data: data}
	w.wg.Go(func() {
		for {
			conn, err := socket.AcceptUnix()
			if err != nil {
				return // closed
			}
			listener, err := receiveFile(conn)
			if errors.Is(err, io.EOF) {
				continue // killed before it became a node
			}
			if err != nil {
				w.fail(err)
				continue
			}
			w.wg.Go(func() { w.fail(w.serve(listener)) })
		}
	})
	return w, nil
}

// address is where the nodes' listeners are sent to.
func (w *watch) address() string { return w.socket.Addr().String() }

func receiveFile(conn *net.UnixConn) (int, error) {
	defer conn.Close()
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), control)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return 0, errors.Join(errors.New("a node sent no listener"), err)
	}
	files, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(files) != 1 {
		return 0, errors.Join(errors.New("a node sent no listener"), err)
	}
	return files[0], nil
}

func (w *watch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err)
}

// tell has on told of each sync from now on, before it is done. With skip it is not done, and the
// node believes that it was. Calls do not overlap: the node's other syncs wait meanwhile. It
// returns the error that ended an earlier process's watch.
func (w *watch) tell(on func(step) (skip bool)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = on
	return w.err
}

// close waits until all watched processes are gone.
func (w *watch) close() error {
	err := w.socket.Close()
	w.wg.Wait()
	return errors.Join(err, w.err)
}

// notification and answer are struct seccomp_notif and seccomp_notif_resp of linux/seccomp.h.
type notification struct {
	id     uint64
	pid    uint32
	_      uint32 // flags
	number int32
	_      uint32 // architecture
	_      uint64 // instruction pointer
	args   [6]uint64
}

type answer struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// serve answers a listener until its process is gone.
func (w *watch) serve(listener int) error {
	defer unix.Close(listener)
	for {
		ready := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return os.NewSyscallError("poll", err)
		}
		if ready[0].Revents&unix.POLLIN == 0 {
			return nil // all threads are gone
		}
		var n notification
		if err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err == unix.ENOENT || err == unix.EINTR {
			continue // that thread is gone
		} else if err != nil {
			return os.NewSyscallError("receive a system call", err)
		}
		a := answer{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if w.ask(n) {
			a.flags = 0
		}
		if err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&a)); err != nil && err != unix.ENOENT {
			return os.NewSyscallError("answer a system call", err)
		}
	}
}

func (w *watch) ask(n notification) (skip bool) {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, n.args[0]))
	if err != nil {
		return false // the process is gone
	}
	name, err := filepath.Rel(w.data, strings.TrimSuffix(path, " (deleted)"))
	if err != nil {
		name = path
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.on != nil && w.on(step{syncCalls[uint32(n.number)], name})
}

func ioctl(fd int, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}
