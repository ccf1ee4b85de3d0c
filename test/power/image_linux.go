package power

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	imageBytes = 192 << 20
	// FS_IOC_SHUTDOWN of linux/fs.h, and the flag with which not even the file system's journal is
	// written out: what was not synced is gone.
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

// image is an ext4 file system in a file, and the directory where it is mounted. Nothing of it
// outlives the test process: the loop device clears itself when nobody has it open any more, and
// the mount goes with the namespace of the process.
type image struct {
	dir     string
	file    *os.File
	options string   // of the mount
	loop    *os.File // the device of file

	cutting sync.Mutex // held while the power is cut
	mu      sync.Mutex // guards power
	power   outage
}

// outage is when the power began to be cut and when it was off, zero if not yet.
type outage struct{ began, off time.Time }

// newImage makes a file system in dir and mounts it with options. Its error says what this machine
// lacks.
func newImage(dir, options string) (_ *image, err error) {
	i := &image{dir: filepath.Join(dir, "mnt"), options: options}
	if err := os.Mkdir(i.dir, 0o700); err != nil {
		return nil, err
	}
	if i.file, err = os.Create(filepath.Join(dir, "image")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			i.file.Close() // nothing is in it
		}
	}()
	if err := i.file.Truncate(imageBytes); err != nil {
		return nil, err
	}
	if err := run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", i.file.Name()); err != nil {
		return nil, fmt.Errorf("mkfs.ext4 of e2fsprogs: %w", err)
	}
	return i, i.mount()
}

// attach returns a loop device of f that is gone once nobody has it open or mounted.
func attach(f *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, os.NewSyscallError("LOOP_CTL_GET_FREE", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close() // it was never ours
		if !errors.Is(err, unix.EBUSY) {
			return nil, os.NewSyscallError("LOOP_CONFIGURE", err)
		}
	}
}

// mount mounts a new device of the file. An old one might still have in its cache what was never
// written.
func (i *image) mount() (err error) {
	if i.loop, err = attach(i.file); err != nil {
		return fmt.Errorf("a loop device (it needs root): %w", err)
	}
	if err := unix.Mount(i.loop.Name(), i.dir, "ext4", 0, i.options); err != nil {
		return errors.Join(fmt.Errorf("a mount of ext4 (it needs root): %w", err), i.loop.Close())
	}
	return nil
}

func (i *image) unmount() error {
	return errors.Join(os.NewSyscallError("umount", unix.Unmount(i.dir, 0)), i.loop.Close())
}

// cut ends the power, unless it is off already: nothing that was not synced is there after the
// next restore, and until then all that uses the file system fails. Safe for concurrent use.
//
// A sync that is under way meanwhile may return success and have written nothing: ext4 looks whether
// it was shut down when a sync begins, and what fails after that may go unnoticed. When power
// really fails, nobody is left to be told.
func (i *image) cut() error {
	i.cutting.Lock()
	defer i.cutting.Unlock()
	if !i.outage().began.IsZero() {
		return nil
	}
	d, err := os.Open(i.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	began := time.Now()
	i.set(outage{began: began})
	flag := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), ioctlShutdown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		return os.NewSyscallError("FS_IOC_SHUTDOWN", errno)
	}
	i.set(outage{began: began, off: time.Now()})
	return nil
}

// outage tells of the power since it was last restored.
func (i *image) outage() outage {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.power
}

func (i *image) set(o outage) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.power = o
}

// sync makes durable what there is.
func (i *image) sync() error {
	d, err := os.Open(i.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}

// restore mounts the file system again, which replays its journal. Nobody may use it.
func (i *image) restore() error {
	if err := i.unmount(); err != nil {
		return err
	}
	i.set(outage{})
	return i.mount()
}

// close unmounts the file system and checks that it is sound.
func (i *image) close() error {
	err := i.unmount()
	if i.outage().began.IsZero() { // else its journal is still to be replayed
		err = errors.Join(err, run("e2fsck", "-f", "-n", i.file.Name()))
	}
	return errors.Join(err, i.file.Close())
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// alone gives this process a mount namespace of its own and runs it again from the start, once.
// So whatever ends it, no mount is left behind.
func alone() error {
	const mark = "POWER_NAMESPACE"
	if os.Getenv(mark) != "" {
		return os.Unsetenv(mark)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil { // the caller has locked its thread
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("make mounts private", err)
	}
	return os.NewSyscallError("execve", unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), mark+"=1")))
}
