package disk

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication"
)

// volume writes files so that they survive, and remembers what the disk said.
//
//	          no room            a value finds room, see findRoom
//	writable ─────────> disk full ─────────> writable
//	    │                   │
//	    └───────────────────┴──> latched: any other error of a write, rename or sync
//
// Latched is for good: after a failed sync the kernel may have dropped what was not written
// and reports success the next time, so nothing that was written since the last good sync can
// be relied on, and syncing again proves nothing.
type volume struct {
	fs      fileSystem
	logger  hclog.Logger
	reserve int           // the size of the reserve in bytes
	staged  atomic.Uint64 // numbers the files in tmp
	noRoom  atomic.Uint64 // how often there was no room

	refilling sync.Mutex // held while the reserve is made again

	mu       sync.Mutex // guards the fields below
	latched  error      // why nothing is written any more; wraps replication.ErrReadOnly
	full     error      // why PUTs are refused, until one finds room; wraps replication.ErrDiskFull
	reserved bool       // the reserve is there
	syncs    map[string]*group
}

// syncError marks an error that left it open what reached the disk.
type syncError struct{ error }

// Unwrap is for errors.Is and errors.As.
func (e syncError) Unwrap() error { return e.error }

// broken returns nil, or the error for all writes once v is latched.
func (v *volume) broken() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.latched
}

// writable returns nil, or why a PUT would be refused as far as is known.
func (v *volume) writable() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.latched != nil {
		return v.latched
	}
	return v.full
}

// latch ends all writing because of err and returns the error to tell.
func (v *volume) latch(err error) error {
	v.mu.Lock()
	first := v.latched == nil
	if first {
		v.latched = fmt.Errorf("%w: %w", replication.ErrReadOnly, err)
	}
	latched := v.latched
	v.mu.Unlock()
	if first {
		v.logger.Error("disk failed, read-only until restart", "error", err)
	}
	return latched
}

// judge returns the error to tell for one that a file operation returned, and draws the
// consequence: none for nil and for a machine short of file handles, disk full, or latched.
func (v *volume) judge(err error) error {
	var unsure syncError
	switch {
	case err == nil, isBusy(err) && !errors.As(err, &unsure), errors.Is(err, replication.ErrReadOnly):
		return err
	case isFull(err) && !errors.As(err, &unsure):
		err = fmt.Errorf("%w: %w", replication.ErrDiskFull, err)
		v.noRoom.Add(1)
		v.mu.Lock()
		first := v.full == nil
		v.full = err
		v.mu.Unlock()
		if first {
			v.logger.Warn("disk full, values are refused until there is room", "error", err)
		}
		return err
	default:
		return v.latch(err)
	}
}

// stage writes a new file in tmp and syncs it. kind is a part of its name, for people and
// tests. On an error nothing is left behind.
func (v *volume) stage(kind string, parts ...[]byte) (name string, err error) {
	if err := v.broken(); err != nil {
		return "", err
	}
	name = fmt.Sprintf("%s/%d-%s", tmpDir, v.staged.Add(1), kind)
	if err := v.create(name, parts...); err != nil {
		return "", v.judge(err)
	}
	return name, nil
}

func (v *volume) create(name string, parts ...[]byte) error {
	f, err := v.fs.OpenFile(name, createNew)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err == nil {
			_, err = f.Write(part)
		}
	}
	if err == nil {
		if err = f.Sync(); err != nil { // the content, before any name leads to it
			err = syncError{fmt.Errorf("sync %s: %w", name, err)}
		}
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		v.discard(name)
	}
	return err
}

// move gives a staged file its name.
func (v *volume) move(staged, name string) error {
	if err := v.broken(); err != nil {
		return err
	}
	return v.judge(v.fs.Rename(staged, name))
}

// discard removes a file of tmp. If that fails, the next Open removes it.
func (v *volume) discard(name string) { _ = v.fs.Remove(name) }

// syncNames makes the names in directory dir durable that were there when it was called. d is
// that directory, open. All who wait for the same directory share a sync, and nobody's sync
// begins between the failure of another's and the latch: the kernel tells that failure once.
func (v *volume) syncNames(dir string, d directory) error {
	v.mu.Lock()
	g := v.syncs[dir]
	if g == nil {
		if v.syncs == nil {
			v.syncs = make(map[string]*group)
		}
		g = new(group)
		v.syncs[dir] = g
	}
	v.mu.Unlock()
	return g.do(func() error {
		if err := v.broken(); err != nil {
			return err
		}
		if err := d.Sync(); err != nil {
			return v.latch(fmt.Errorf("sync directory %s: %w", dir, err))
		}
		return nil
	})
}

// replace gives file name in directory dir the content of parts: durably, and whoever reads
// it meanwhile reads the old content or the new. The directory is opened first, because being
// out of file handles must not show after the rename.
func (v *volume) replace(dir, name, kind string, parts ...[]byte) error {
	d, err := v.fs.OpenDir(dir)
	if err != nil {
		return v.judge(err)
	}
	defer closeRead(d)
	staged, err := v.stage(kind, parts...)
	if err != nil {
		return err
	}
	if err := v.move(staged, join(dir, name)); err != nil {
		v.discard(staged)
		return err
	}
	return v.syncNames(dir, d)
}

// mkdir makes directory dir in parent, durably.
func (v *volume) mkdir(parent, dir string) error {
	d, err := v.fs.OpenDir(parent)
	if err != nil {
		return v.judge(err)
	}
	defer closeRead(d)
	if err := v.judge(v.fs.Mkdir(join(parent, dir))); err != nil {
		return err
	}
	return v.syncNames(parent, d)
}

// settle makes durable whatever names are in dir. A process that was killed may have left
// names that one can read and that a power cut would still take away.
func (v *volume) settle(dir string) error {
	d, err := v.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	defer closeRead(d)
	return v.syncNames(dir, d)
}

// closeRead closes what was only read or synced: there is nothing left that could fail.
func closeRead(c io.Closer) { _ = c.Close() }

func join(dir, name string) string {
	if dir == topDir {
		return name
	}
	return dir + "/" + name
}

// split is the reverse of join.
func split(path string) (dir, name string) {
	at := strings.LastIndexByte(path, '/')
	if at < 0 {
		return topDir, path
	}
	return path[:at], path[at+1:]
}
