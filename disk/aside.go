package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
)

const (
	asideDir = "aside"
	// beginFile holds what a store begins with whose data was set aside: its history but for dots.
	beginFile = "begin"
	// intentFile says what is being set aside. While it is there, that is not finished.
	intentFile = "setting-aside"
	// asideTime is how the names of the directories in aside begin.
	asideTime = "20060102T150405Z"
)

// Aside says why the data of a node is set aside, and what is not.
type Aside struct {
	// Reason becomes a part of the directory's name: 1 to 64 lower-case letters, digits and "-".
	Reason string
	// Keep names the state (see Store.SaveState) that stays. What is not there is no error.
	Keep []string
	// NewID: the node id is set aside, too, and the next Open draws a new one.
	NewID bool
}

// SetAside moves all that the node holds out of the way, to begin anew: records, seen set,
// state, as a says. Nothing is deleted. It waits for operations under way and closes the store,
// whatever comes of it; only an invalid a changes nothing. The next Open finds no records and an empty seen set; still known are the
// origins of this node and the floor of its clock (see Store.Begin), the state that is kept, and
// the node id unless a says otherwise.
//
// It returns where the data is, as [Store.Asides] does. It happens as a whole or not at all,
// also in a crash: after an error the next Open finishes what had begun. Errors are those of
// Apply, or say that a is not valid. All records must have room in files, and the next Open needs
// room for a new journal.
func (s *Store) SetAside(a Aside) (path string, err error) {
	if err := a.validate(); err != nil {
		return "", err
	}
	s.use.Lock()
	defer s.use.Unlock()
	if s.closed {
		return "", fmt.Errorf("store: %w", os.ErrClosed)
	}
	s.closed = true
	if err = s.closeJournal(); err == nil {
		err = s.incomplete()
	}
	if err == nil {
		path, err = s.volume.setAside(a, s.memory.copy())
	}
	if err = errors.Join(err, s.lock.Close()); err != nil {
		return "", fmt.Errorf("set data aside: %w", err)
	}
	return path, nil
}

func (a *Aside) validate() error {
	for _, name := range append([]string{a.Reason}, a.Keep...) {
		if err := checkName(name); err != nil {
			return fmt.Errorf("set data aside: %w", err)
		}
	}
	return nil
}

// intent is what is in intentFile: all that finish needs to know, however often it is run.
type intent struct {
	Path  string   `json:"path"`
	Keep  []string `json:"keep"`
	NewID bool     `json:"new_id"`
	// History is the encoded history that the store begins anew with.
	History []byte `json:"history"`
}

func (v *volume) setAside(a Aside, h history) (path string, err error) {
	path, err = v.freeAside(a.Reason)
	if err != nil {
		return "", err
	}
	// Without the floor, the clock could start below what this node stamped before.
	h.seen = new(seen.Set)
	in := intent{Path: path, Keep: a.Keep, NewID: a.NewID, History: h.encode()}
	text, err := json.Marshal(in)
	if err != nil {
		return "", err
	}
	err = v.attempt(true, func() error {
		return v.replace(topDir, intentFile, "intent", seal("intent", text))
	})
	if err != nil {
		return "", err
	}
	return path, v.finish(in)
}

// freeAside returns the name for a new directory in aside. When two share a second, the later
// one gets the next.
func (v *volume) freeAside(reason string) (string, error) {
	names, err := v.names(asideDir)
	if err != nil {
		return "", err
	}
	for t := time.Now().UTC(); ; t = t.Add(time.Second) {
		if name := t.Format(asideTime) + "-" + reason; !slices.Contains(names, name) {
			return join(asideDir, name), nil
		}
	}
}

// resume finishes what a process before this one began to set aside. The names at the top are
// durable, so that an intent that is gone cannot come back and move what is new.
func (v *volume) resume() error {
	data, err := v.fs.ReadFile(intentFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var in intent
	if err == nil {
		data, err = unseal("intent", data)
	}
	if err == nil {
		err = json.Unmarshal(data, &in)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", intentFile, err)
	}
	v.logger.Info("data is set aside, as the process before began to", "path", in.Path)
	return v.finish(in)
}

// finish does what in says, or the rest of it. Each step may have been done before.
func (v *volume) finish(in intent) error {
	return v.attempt(true, func() error {
		if err := v.moveAside(in); err != nil {
			return err
		}
		if err := v.replace(topDir, beginFile, "begin", seal("begin", in.History)); err != nil {
			return err
		}
		if err := v.remove(intentFile); err != nil {
			return err
		}
		return v.settle(topDir) // an intent that came back would move what is new
	})
}

// moveAside moves things to where in says, durably. That a file system moves a name from one
// directory to another in one step, whatever happens, is relied on.
func (v *volume) moveAside(in intent) error {
	for _, dir := range []string{asideDir, in.Path, join(in.Path, stateDir)} {
		parent, name := split(dir)
		if err := v.mkdir(parent, name); err != nil {
			return err
		}
	}
	top := append([]string{keysDir, journalDir, beginFile}, saveFiles[:]...)
	if in.NewID {
		top = append(top, nodeFile)
	}
	if err := v.moveNames(topDir, in.Path, func(name string) bool { return slices.Contains(top, name) }); err != nil {
		return err
	}
	err := v.moveNames(stateDir, join(in.Path, stateDir), func(name string) bool { return !slices.Contains(in.Keep, name) })
	if err != nil {
		return err
	}
	// Before anything new takes one of the names: with only that left after a power cut, the
	// old would be lost. As a move is one step, it is enough to sync where things went.
	for _, dir := range []string{join(in.Path, stateDir), in.Path} {
		if err := v.settle(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{keysDir, journalDir} {
		if err := v.judge(v.fs.Mkdir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// moveNames moves the names of directory from that are chosen to directory to, but those that
// are there: they have been moved, and what has the name now is new.
func (v *volume) moveNames(from, to string, chosen func(name string) bool) error {
	names, err := v.names(from)
	if err != nil {
		return err
	}
	moved, err := v.names(to)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if !chosen(name) || slices.Contains(moved, name) {
			continue
		}
		if err := v.move(join(from, name), join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

// names returns the names in a directory, none if it is not there.
func (v *volume) names(dir string) ([]string, error) {
	names, err := v.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// incomplete returns an error unless all records are in their files, where [Store.Records] looks
// for them. The journal is closed.
func (s *Store) incomplete() error {
	if err := s.volume.broken(); err != nil {
		return err
	}
	if n := s.backlog.len(); n > 0 {
		return fmt.Errorf("%w: %d records have no files yet", replication.ErrDiskFull, n)
	}
	return nil
}

// recallBegin notes what the store began with, if its data was set aside.
func (s *Store) recallBegin() error {
	data, err := s.volume.fs.ReadFile(beginFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var h history
	if err == nil {
		data, err = unseal("begin", data)
	}
	if err == nil {
		h, err = decodeHistory(data)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", beginFile, err)
	}
	s.memory.merge(h)
	return nil
}
