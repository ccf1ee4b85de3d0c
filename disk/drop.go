package disk

import (
	"errors"
	"io/fs"

	"github.com/protocol7/snakes/replication/version"
)

// Drop implements replication.Store. Different keys are dropped side by side.
//
// The file is removed and nothing synced. What a power cut may bring back is the tombstone
// alone, to be dropped once more: its name replaced that of any older record durably before
// Lookup told of it. And whatever is applied to the key later makes itself durable.
func (s *Store) Drop(key string, v version.Version) (bool, error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.leave()
	s.keys.lock(key)
	defer s.keys.unlock(key)
	if err := s.volume.broken(); err != nil {
		return false, err
	}
	e, found := s.index.find(key)
	if !found || !e.meta.Deleted || e.meta.Version != v || !s.seen.keeps(v) {
		return false, nil
	}
	err := s.volume.attempt(true, func() error { return s.volume.remove(keyPath(key)) })
	if err != nil {
		return false, err
	}
	s.index.remove(key)
	return true, nil
}

// remove removes a file, if it is there. The name may be back after a power cut.
func (v *volume) remove(name string) error {
	err := v.fs.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return v.judge(err)
}
