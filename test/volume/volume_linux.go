package volume

import (
	"errors"
	"fmt"
	"io"
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
	// FS_IOC_SHUTDOWN of linux/fs.h, and the flag with which not even the file system's journal is
	// written out: what was not synced is gone.
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

// Volume is an ext4 file system in a file, and the directory where it is mounted. Nothing of it
// outlives the test process: the loop device clears itself when nobody has it open any more, and
// the mount goes with the namespace of the process, see PrivateMounts.
type Volume struct {
	// Dir is where it is mounted.
	Dir     string
	file    *os.File
	options string   // of the mount
	loop    *os.File // the device of file

	cutting sync.Mutex // held while the power is cut
	mu      sync.Mutex // guards power
	power   Outage
}

// Outage is when the power began to be cut and when it was off, zero if not yet.
type Outage struct{ Began, Off time.Time }

// New makes a file system of that many bytes in dir, an empty directory, and mounts it with options. Its error says what this
// machine lacks.
func New(dir, options string, size int64) (_ *Volume, err error) {
	v := &Volume{Dir: filepath.Join(dir, "mnt"), options: options}
	if err := os.Mkdir(v.Dir, 0o700); err != nil {
		return nil, err
	}
	if v.file, err = os.Create(filepath.Join(dir, "image")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			v.file.Close() // nothing is in it
		}
	}()
	if err := v.file.Truncate(size); err != nil {
		return nil, err
	}
	if err := run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", v.file.Name()); err != nil {
		return nil, fmt.Errorf("mkfs.ext4 of e2fsprogs: %w", err)
	}
	return v, v.mount()
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
func (v *Volume) mount() (err error) {
	if v.loop, err = attach(v.file); err != nil {
		return fmt.Errorf("a loop device (it needs root): %w", err)
	}
	if err := unix.Mount(v.loop.Name(), v.Dir, "ext4", 0, v.options); err != nil {
		return errors.Join(fmt.Errorf("a mount of ext4 (it needs root): %w", err), v.loop.Close())
	}
	return nil
}

func (v *Volume) unmount() error {
	return errors.Join(os.NewSyscallError("umount", unix.Unmount(v.Dir, 0)), v.loop.Close())
}

// Fill takes all the room that is left, but for as many bytes, or with -1 all inodes, until Empty.
func (v *Volume) Fill(but int64) error {
	if err := os.Mkdir(v.ballast(), 0o700); err != nil {
		return err
	}
	if but < 0 {
		for i := 0; ; i++ {
			err := os.WriteFile(filepath.Join(v.ballast(), fmt.Sprint(i)), nil, 0o600)
			if errors.Is(err, unix.ENOSPC) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	f, err := os.Create(filepath.Join(v.ballast(), "room"))
	if err != nil {
		return err
	}
	defer f.Close()
	for step := int64(16 << 20); step >= 4<<10; { // what is free changes meanwhile, and extents need some of it
		var is unix.Statfs_t
		if err := unix.Statfs(v.Dir, &is); err != nil {
			return os.NewSyscallError("statfs", err)
		}
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if free := int64(is.Bavail)*is.Bsize - but; free < step {
			step /= 2
			continue
		}
		if err := unix.Fallocate(int(f.Fd()), 0, end, step); errors.Is(err, unix.ENOSPC) {
			step /= 2
		} else if err != nil {
			return os.NewSyscallError("fallocate", err)
		}
	}
	return nil
}

// Empty gives back what Fill took.
func (v *Volume) Empty() error { return os.RemoveAll(v.ballast()) }

func (v *Volume) ballast() string { return filepath.Join(v.Dir, "ballast") }

// Forbid has the file system find an error in itself, as a damaged one would: with the mount option errors=remount-ro it takes no
// writes from then on, until Restore.
func (v *Volume) Forbid() error {
	return os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(v.loop.Name()), "trigger_fs_error"), []byte("1"), 0)
}

// Cut ends the power, unless it is off already: nothing that was not synced is there after the
// next Restore, and until then all that uses the file system fails. Safe for concurrent use.
//
// A sync that is under way meanwhile may return success and have written nothing: ext4 looks whether
// it was shut down when a sync begins, and what fails after that may go unnoticed. When power
// really fails, nobody is left to be told.
func (v *Volume) Cut() error {
	v.cutting.Lock()
	defer v.cutting.Unlock()
	if !v.Outage().Began.IsZero() {
		return nil
	}
	d, err := os.Open(v.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	began := time.Now()
	v.set(Outage{Began: began})
	flag := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), ioctlShutdown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		return os.NewSyscallError("FS_IOC_SHUTDOWN", errno)
	}
	v.set(Outage{Began: began, Off: time.Now()})
	return nil
}

// Outage tells of the power since it was last restored.
func (v *Volume) Outage() Outage {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.power
}

func (v *Volume) set(o Outage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.power = o
}

// Sync makes durable what there is.
func (v *Volume) Sync() error {
	d, err := os.Open(v.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}

// Restore mounts the file system again, which replays its journal. Nobody may use it.
func (v *Volume) Restore() error {
	if err := v.unmount(); err != nil {
		return err
	}
	v.set(Outage{})
	return v.mount()
}

// Close unmounts the file system and checks that it is sound.
func (v *Volume) Close() error {
	err := v.unmount()
	if v.Outage().Began.IsZero() { // else its journal is still to be replayed
		err = errors.Join(err, run("e2fsck", "-f", "-n", v.file.Name()))
	}
	return errors.Join(err, v.file.Close())
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// PrivateMounts gives this process a mount namespace of its own and runs it again from the start, once, so that whatever ends
// it, no mount is left behind. It belongs at the beginning of TestMain, whose goroutine has locked its thread. It needs root.
func PrivateMounts() error {
	const mark = "SNAKES_PRIVATE_MOUNTS"
	if os.Getenv(mark) != "" {
		return os.Unsetenv(mark)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("make mounts private", err)
	}
	return os.NewSyscallError("execve", unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), mark+"=1")))
}
