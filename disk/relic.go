package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/replication"
)

// settledFile marks a directory in aside as dealt with.
const settledFile = "settled"

// Relic is data that was set aside.
type Relic struct {
	// Path is its directory, relative to the data directory, with slashes.
	Path string
	// Reason is that of [Store.SetAside].
	Reason string
	// Since is when it was set aside, to the second.
	Since time.Time
	// Settled: see [Store.Settle].
	Settled bool
}

// Asides returns what was set aside and is still there, the oldest first. What else is in that
// place is left out. The error is that of a disk that cannot be read, or wraps os.ErrClosed.
func (s *Store) Asides() ([]Relic, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	names, err := s.volume.names(asideDir)
	if err != nil {
		return nil, fmt.Errorf("data set aside: %w", err)
	}
	slices.Sort(names)
	var relics []Relic
	for _, name := range names {
		r, ok := parseRelic(join(asideDir, name))
		if !ok {
			continue
		}
		files, err := s.volume.names(r.Path)
		if err != nil {
			return nil, fmt.Errorf("data set aside: %w", err)
		}
		r.Settled = slices.Contains(files, settledFile)
		relics = append(relics, r)
	}
	return relics, nil
}

func parseRelic(path string) (Relic, bool) {
	name, ok := strings.CutPrefix(path, asideDir+"/")
	if !ok || len(name) <= len(asideTime) || name[len(asideTime)] != '-' {
		return Relic{}, false
	}
	since, err := time.Parse(asideTime, name[:len(asideTime)])
	reason := name[len(asideTime)+1:]
	return Relic{Path: path, Reason: reason, Since: since}, err == nil && checkName(reason) == nil
}

// Records yields the records, tombstones included, of what was set aside at path, in no
// particular order and with their checksums verified. A file that holds no sound record of its
// key yields an error that wraps replication.ErrDamaged in its place. Any other error is the
// last: that there is nothing at path (fs.ErrNotExist), that the disk cannot be read, or one
// that wraps os.ErrClosed. Nothing is changed. The caller owns the records; it may be slow and
// may call the store.
func (s *Store) Records(path string) iter.Seq2[replication.Record, error] {
	return func(yield func(replication.Record, error) bool) {
		keys := join(path, keysDir)
		dirs, err := s.listRelic(path, keys)
		for _, dir := range dirs {
			if !isKeyDir(dir) { // as Open told
				continue
			}
			var files []string
			if files, err = s.listRelic(path, join(keys, dir)); err != nil {
				break
			}
			for _, file := range files {
				r, err := s.readRelic(path, join(keysDir, join(dir, file)))
				if !yield(r, err) || err != nil && !errors.Is(err, replication.ErrDamaged) {
					return
				}
			}
		}
		if err != nil {
			yield(replication.Record{}, fmt.Errorf("data set aside: %w", err))
		}
	}
}

func (s *Store) listRelic(path, dir string) ([]string, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	if _, ok := parseRelic(path); !ok {
		return nil, fmt.Errorf("%.80q: %w", path, fs.ErrNotExist)
	}
	names, err := s.volume.fs.List(dir)
	slices.Sort(names)
	return names, err
}

func (s *Store) readRelic(path, file string) (replication.Record, error) {
	if err := s.enter(); err != nil {
		return replication.Record{}, err
	}
	defer s.leave()
	data, err := s.volume.fs.ReadFile(join(path, file))
	if isBusy(err) {
		return replication.Record{}, fmt.Errorf("read %s: %w", join(path, file), err)
	}
	var r replication.Record
	if err == nil {
		r, err = parseRecord(data)
	}
	if err == nil && keyPath(r.Key) != file {
		err = fmt.Errorf("%w: record of %s in another key's place", errFormat, r.Key)
	}
	if err != nil {
		return replication.Record{}, fmt.Errorf("%w: %s: %w", replication.ErrDamaged, join(path, file), err)
	}
	return r, nil
}

// Settle marks what was set aside at path as dealt with, durably: Asides tells that from then
// on. It stays where it is. The error wraps fs.ErrNotExist if there is nothing at path; others
// are those of Apply.
func (s *Store) Settle(path string) error {
	if _, err := s.listRelic(path, path); err != nil {
		return fmt.Errorf("settle data set aside: %w", err)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	err := s.volume.attempt(true, func() error { return s.volume.replace(path, settledFile, "settled", nil) })
	if err != nil {
		return fmt.Errorf("settle data set aside: %w", err)
	}
	return nil
}
