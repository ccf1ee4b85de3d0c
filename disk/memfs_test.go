package disk

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// memFS is a file system in memory that knows what a power cut would leave: of a file the
// content at its last sync, of a directory the names at its last sync, and of all that came
// later anything or nothing, in any mixture. Only a rename is one step, also between directories:
// both names change or none, and a sync of one directory is good for the other's name too.
type memFS struct {
	// on, unless nil, is called before each step that changes or syncs something. With an
	// error the step is not done and returns it; errLie means not done either, but success, and
	// a lateError that it is done and then fails. Calls do not overlap.
	on func(step) error
	// onRead does the same for steps that read a file.
	onRead func(name string) error

	hooks  sync.Mutex // held while on is called
	mu     sync.Mutex // guards the fields below and all nodes
	root   *memNode
	dead   bool // the process that used it was killed
	locked bool
}

// step is one change of the file system.
type step struct {
	op, name string
	end      int // of a write, where it ends in its file
}

func (s step) String() string { return s.op + " " + s.name }

var (
	errLie  = errors.New("pretend success")
	errDead = errors.New("process was killed")
)

// lateError is the error of a step that was done all the same.
type lateError struct{ error }

// memNode is a file or a directory.
type memNode struct {
	data, synced []byte // of a file
	name         string // that it was renamed to

	names, durable map[string]*memNode // of a directory
	changes        []memChange         // since it was synced
}

type memChange struct {
	name string
	node *memNode // nil: removed
	move *memMove // nil: a change by itself
}

// memMove is a rename, which is a change of each of the two names.
type memMove struct{ from, to *memNode }

func newDir() *memNode {
	return &memNode{names: map[string]*memNode{}, durable: map[string]*memNode{}}
}

func newMemFS() *memFS { return &memFS{root: newDir()} }

func (n *memNode) set(name string, node *memNode) { n.change(memChange{name: name, node: node}) }

func (n *memNode) change(c memChange) {
	if c.node == nil {
		delete(n.names, c.name)
	} else {
		n.names[c.name] = c.node
	}
	n.changes = append(n.changes, c)
}

// sync makes the names of a directory durable, and of renames the names in the other one.
func (n *memNode) sync() {
	for _, c := range n.changes {
		if c.move == nil {
			continue
		}
		other := c.move.from
		if other == n {
			other = c.move.to
		}
		at := slices.IndexFunc(other.changes, func(o memChange) bool { return o.move == c.move })
		if other == n || at < 0 {
			continue
		}
		same := other.changes[at]
		if same.node == nil {
			delete(other.durable, same.name)
		} else {
			other.durable[same.name] = same.node
		}
		passed := slices.DeleteFunc(slices.Clone(other.changes[:at+1]), func(o memChange) bool { return o.name == same.name })
		other.changes = append(passed, other.changes[at+1:]...)
	}
	n.durable = maps.Clone(n.names)
	n.changes = nil
}

// kill ends the process that uses m and returns the same files for another.
func (m *memFS) kill() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	return &memFS{root: m.root, on: m.on}
}

// cut ends the process and the power, and returns what is left. random decides about all that
// was not synced.
func (m *memFS) cut(random *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	c := powerCut{random, map[*memNode]*memNode{}, map[*memMove]bool{}}
	return &memFS{root: m.root.afterCut(c), on: m.on}
}

// powerCut is what was decided so far about what is left.
type powerCut struct {
	random *rand.Rand
	left   map[*memNode]*memNode
	moved  map[*memMove]bool
}

// survives decides about a change in a directory of whose changes none, half or all made it.
func (p powerCut) survives(c memChange, chance int) bool {
	survives, decided := p.moved[c.move]
	if c.move == nil || !decided {
		survives = p.random.IntN(2) < chance
		if c.move != nil {
			p.moved[c.move] = survives
		}
	}
	return survives
}

func (n *memNode) afterCut(p powerCut) *memNode {
	if done, ok := p.left[n]; ok {
		return done
	}
	if n.names == nil {
		data := n.dataAfterCut(p.random)
		p.left[n] = &memNode{data: data, synced: bytes.Clone(data)}
		return p.left[n]
	}
	names := maps.Clone(n.durable)
	chance := p.random.IntN(3)
	for _, c := range n.changes {
		if !p.survives(c, chance) {
			continue
		}
		if c.node == nil {
			delete(names, c.name)
		} else {
			names[c.name] = c.node
		}
	}
	result := newDir()
	p.left[n] = result
	for _, name := range slices.Sorted(maps.Keys(names)) {
		result.names[name] = names[name].afterCut(p)
	}
	result.durable = maps.Clone(result.names)
	return result
}

func (n *memNode) dataAfterCut(random *rand.Rand) []byte {
	switch random.IntN(3) {
	case 0:
		return bytes.Clone(n.synced)
	case 1:
		return bytes.Clone(n.data)
	}
	size := len(n.synced)
	if len(n.data) > size {
		size += random.IntN(len(n.data) - size + 1)
	}
	torn := make([]byte, min(size, len(n.data)))
	copy(torn, n.synced)
	for at := 0; at < len(torn); at += 8 {
		if end := min(at+8, len(torn)); random.IntN(2) == 0 {
			copy(torn[at:end], n.data[at:end])
		}
	}
	return torn
}

// do runs a step under the lock, with the hook before it.
func (m *memFS) do(op, name string, change func() error) error { return m.doTo(op, name, 0, change) }

func (m *memFS) doTo(op, name string, end int, change func() error) error {
	m.mu.Lock()
	hook, dead := m.on, m.dead
	m.mu.Unlock()
	if dead {
		return errDead
	}
	if hook != nil {
		m.hooks.Lock()
		err := hook(step{op, name, end})
		m.hooks.Unlock()
		var late lateError
		switch {
		case errors.Is(err, errLie):
			return nil
		case errors.As(err, &late):
			_ = m.changed(change) // whatever came of it, the answer is an error
			return late.error
		case err != nil:
			return err
		}
	}
	return m.changed(change)
}

func (m *memFS) changed(change func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	return change()
}

// look runs a reading step.
func (m *memFS) look(name string, read func() error) error {
	if m.onRead != nil {
		if err := m.onRead(name); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	return read()
}

// find returns the node of a name, and its directory and last element.
func (m *memFS) find(name string) (node, dir *memNode, base string) {
	node = m.root
	if name == topDir {
		return node, nil, ""
	}
	for base = range strings.SplitSeq(name, "/") {
		if node == nil {
			return nil, nil, ""
		}
		node, dir = node.names[base], node
	}
	return node, dir, base
}

func notExist(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func (m *memFS) Lock() (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return nil, &InUseError{Dir: "memory"}
	}
	m.locked = true
	m.root.set("lock", &memNode{})
	return memLock{m}, nil
}

type memLock struct{ m *memFS }

func (l memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.locked = false
	return nil
}

func (m *memFS) List(dir string) (names []string, err error) {
	err = m.look(dir, func() error {
		n, _, _ := m.find(dir)
		if n == nil {
			return notExist("list", dir)
		}
		names = slices.Sorted(maps.Keys(n.names))
		return nil
	})
	return names, err
}

func (m *memFS) ReadFile(name string) (data []byte, err error) {
	err = m.look(name, func() error {
		n, _, _ := m.find(name)
		if n == nil {
			return notExist("read", name)
		}
		data = bytes.Clone(n.data)
		return nil
	})
	return data, err
}

func (m *memFS) Mkdir(dir string) error {
	m.mu.Lock()
	n, _, _ := m.find(dir)
	m.mu.Unlock()
	if n != nil {
		return m.look(dir, func() error { return nil })
	}
	return m.do("mkdir", dir, func() error {
		n, parent, base := m.find(dir)
		if n == nil {
			parent.set(base, newDir())
		}
		return nil
	})
}

func (m *memFS) OpenFile(name string, flag int) (file, error) {
	f := &memFile{m: m, name: name}
	open := func() error {
		n, dir, base := m.find(name)
		switch {
		case n == nil && flag&os.O_CREATE == 0:
			return notExist("open", name)
		case n != nil && flag&os.O_EXCL != 0:
			return fmt.Errorf("open %s: %w", name, fs.ErrExist)
		case n == nil:
			n = &memNode{}
			dir.set(base, n)
		}
		f.node = n
		return nil
	}
	m.mu.Lock()
	n, _, _ := m.find(name)
	m.mu.Unlock()
	if flag&os.O_EXCL != 0 || n == nil && flag&os.O_CREATE != 0 {
		return f, m.do("create", name, open)
	}
	return f, m.look(name, open)
}

func (m *memFS) OpenDir(dir string) (directory, error) {
	f := &memFile{m: m, name: dir}
	return f, m.look(dir, func() error {
		if f.node, _, _ = m.find(dir); f.node == nil {
			return notExist("open", dir)
		}
		return nil
	})
}

func (m *memFS) Rename(from, to string) error {
	return m.do("rename", to, func() error {
		n, fromDir, fromBase := m.find(from)
		_, toDir, toBase := m.find(to)
		if n == nil || toDir == nil {
			return notExist("rename", from)
		}
		n.name = to
		move := &memMove{fromDir, toDir}
		toDir.change(memChange{toBase, n, move})
		fromDir.change(memChange{fromBase, nil, move})
		return nil
	})
}

func (m *memFS) Remove(name string) error {
	return m.do("remove", name, func() error {
		n, dir, base := m.find(name)
		if n == nil {
			return notExist("remove", name)
		}
		dir.set(base, nil)
		return nil
	})
}

// memFile is an open file or directory.
type memFile struct {
	m    *memFS
	name string
	node *memNode
	at   int
}

// path is the name of the file as far as m knows.
func (f *memFile) path() string {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return cmp.Or(f.node.name, f.name)
}

func (f *memFile) Read(b []byte) (n int, err error) {
	err = f.m.look(f.name, func() error {
		if f.at >= len(f.node.data) {
			return io.EOF
		}
		n = copy(b, f.node.data[f.at:])
		f.at += n
		return nil
	})
	return n, err
}

func (f *memFile) ReadAt(b []byte, offset int64) (n int, err error) {
	err = f.m.look(f.name, func() error {
		n = copy(b, f.node.data[min(int(offset), len(f.node.data)):])
		if n < len(b) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *memFile) Truncate(size int64) error {
	return f.m.do("truncate", f.path(), func() error {
		f.node.data = f.node.data[:size:size]
		return nil
	})
}

func (f *memFile) Write(b []byte) (int, error) {
	n, err := f.WriteAt(b, int64(f.at))
	f.at += n
	return n, err
}

func (f *memFile) WriteAt(b []byte, offset int64) (int, error) {
	err := f.m.doTo("write", f.path(), int(offset)+len(b), func() error {
		end := int(offset) + len(b)
		if grow := end - len(f.node.data); grow > 0 {
			f.node.data = append(f.node.data, make([]byte, grow)...)
		}
		copy(f.node.data[offset:], b)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return memInfo{f.name, int64(len(f.node.data))}, nil
}

func (f *memFile) Sync() error {
	if f.node.names != nil {
		return f.m.do("syncdir", f.path(), func() error {
			f.node.sync()
			return nil
		})
	}
	return f.m.do("sync", f.path(), func() error {
		f.node.synced = bytes.Clone(f.node.data)
		return nil
	})
}

// SyncAll syncs all that is below a directory.
func (f *memFile) SyncAll() error {
	return f.m.do("syncall", f.path(), func() error {
		f.node.syncBelow()
		return nil
	})
}

func (n *memNode) syncBelow() {
	if n.names == nil {
		n.synced = bytes.Clone(n.data)
		return
	}
	n.sync()
	for _, child := range n.names {
		child.syncBelow()
	}
}

func (f *memFile) Close() error { return nil }

type memInfo struct {
	name string
	size int64
}

func (i memInfo) Name() string     { return i.name }
func (i memInfo) Size() int64      { return i.size }
func (memInfo) Mode() fs.FileMode  { return 0o600 }
func (memInfo) ModTime() time.Time { return time.Time{} }
func (memInfo) IsDir() bool        { return false }
func (memInfo) Sys() any           { return nil }
