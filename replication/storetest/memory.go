package storetest

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// Memory is a Store in memory. The zero Memory is empty and ready to use.
type Memory struct {
	// BeforeApply, unless nil, is called at the start of every Apply with its records. It may
	// block, which parks that Apply and no other call. It is set before the first use.
	BeforeApply func(records []replication.Record)

	mu      sync.Mutex // guards the fields below
	records map[string]replication.Record
	damaged map[string]bool
	seen    seen.Set
	fault   error
}

var _ replication.Store = (*Memory)(nil)

// FailWrites makes all writes fail with err from now on, and Writable return it. err wraps
// replication.ErrReadOnly or replication.ErrDiskFull like that of any Store; nil makes
// writes work again.
func (m *Memory) FailWrites(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = err
}

// Damage makes the record of key damaged, whether there is one or not, until a record that is
// at least as new is applied.
func (m *Memory) Damage(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.damaged == nil {
		m.damaged = make(map[string]bool)
	}
	m.damaged[key] = true
}

// Lose makes the store forget the record of key without a trace, as no store should: neither
// damage nor a seen set that lacks it tells of it.
func (m *Memory) Lose(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, key)
	delete(m.damaged, key)
}

// Revert makes r the record of its key, however new the one there is, and marks no dot: an
// older copy, as no store should bring it back.
func (m *Memory) Revert(r replication.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records = make(map[string]replication.Record)
	}
	r.Value = bytes.Clone(r.Value)
	m.records[r.Key] = r
	delete(m.damaged, r.Key)
}

// Apply implements replication.Store.
func (m *Memory) Apply(records []replication.Record) []replication.Outcome {
	if m.BeforeApply != nil {
		m.BeforeApply(records)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	outcomes := make([]replication.Outcome, len(records))
	for i, r := range records {
		outcomes[i] = m.apply(r)
	}
	return outcomes
}

func (m *Memory) apply(r replication.Record) replication.Outcome {
	if err := replication.ValidKey(r.Key); err != nil {
		return replication.Outcome{Err: err}
	}
	if m.fault != nil {
		return replication.Outcome{Err: m.fault}
	}
	m.seen.Add(r.Version.Dot)
	old, exists := m.records[r.Key]
	newer := r.Version.Compare(old.Version)
	if exists && (newer < 0 || newer == 0 && !m.damaged[r.Key]) {
		return replication.Outcome{Current: old.Meta()}
	}
	if m.records == nil {
		m.records = make(map[string]replication.Record)
	}
	r.Value = bytes.Clone(r.Value)
	m.records[r.Key] = r
	delete(m.damaged, r.Key)
	return replication.Outcome{Current: r.Meta()}
}

// Lookup implements replication.Store.
func (m *Memory) Lookup(key string) (replication.Meta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.get(key)
	return r.Meta(), err
}

// Get implements replication.Store.
func (m *Memory) Get(key string) (replication.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.get(key)
	r.Value = bytes.Clone(r.Value)
	return r, err
}

func (m *Memory) get(key string) (replication.Record, error) {
	if m.damaged[key] {
		return replication.Record{}, fmt.Errorf("%w: %s", replication.ErrDamaged, key)
	}
	r, exists := m.records[key]
	if !exists {
		return replication.Record{}, fmt.Errorf("%w: %s", replication.ErrNotFound, key)
	}
	return r, nil
}

// Seen implements replication.Store.
func (m *Memory) Seen() *seen.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen.Clone()
}

// SeenHash implements replication.Store.
func (m *Memory) SeenHash() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen.Hash()
}

// Unite implements replication.Store.
func (m *Memory) Unite(s *seen.Set) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		return m.fault
	}
	m.seen.Union(s)
	return nil
}

// Lacking implements replication.Store. It looks at all records.
func (m *Memory) Lacking(theirs *seen.Set) (keys []string, complete bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	complete = true
	for key := range m.damaged {
		r, exists := m.records[key]
		complete = complete && exists && theirs.Has(r.Version.Dot)
	}
	for key, r := range m.records {
		if !m.damaged[key] && !theirs.Has(r.Version.Dot) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, complete
}

// Digest implements replication.Store. It looks at all records.
func (m *Memory) Digest() uint64 {
	var digest uint64
	for _, bucket := range m.Buckets() {
		digest ^= bucket
	}
	return digest
}

// Buckets implements replication.Store. It looks at all records.
func (m *Memory) Buckets() []uint64 {
	buckets := make([]uint64, replication.DigestBuckets)
	for key, meta := range m.Scan("") {
		if !meta.Deleted {
			buckets[replication.BucketOf(key)] ^= replication.DigestOf(key, meta.Version)
		}
	}
	return buckets
}

// Contents implements replication.Store. It looks at all records.
func (m *Memory) Contents(buckets ...int) []replication.Held {
	var contents []replication.Held
	for key, meta := range m.Scan("") {
		if slices.Contains(buckets, replication.BucketOf(key)) {
			contents = append(contents, replication.Held{Key: key, Version: meta.Version, Deleted: meta.Deleted})
		}
	}
	return contents
}

// Tombstones implements replication.Store. It looks at all records.
func (m *Memory) Tombstones() iter.Seq2[string, version.Version] {
	return func(yield func(string, version.Version) bool) {
		tombstones := make(map[string]version.Version)
		m.mu.Lock()
		for key, r := range m.records {
			if r.Deleted {
				tombstones[key] = r.Version
			}
		}
		m.mu.Unlock()
		for _, key := range slices.Sorted(maps.Keys(tombstones)) {
			if !yield(key, tombstones[key]) {
				return
			}
		}
	}
}

// TombstoneCount implements replication.Store. It looks at all records.
func (m *Memory) TombstoneCount() int {
	n := 0
	for range m.Tombstones() {
		n++
	}
	return n
}

// Drop implements replication.Store.
func (m *Memory) Drop(key string, v version.Version) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		return false, m.fault
	}
	r, exists := m.records[key]
	if !exists || !r.Deleted || r.Version != v || !m.seen.Has(v.Dot) {
		return false, nil
	}
	delete(m.records, key)
	delete(m.damaged, key)
	return true, nil
}

// Len implements replication.Store.
func (m *Memory) Len() int {
	live := 0
	for _, meta := range m.Scan("") {
		if !meta.Deleted {
			live++
		}
	}
	return live
}

// Scan implements replication.Store.
func (m *Memory) Scan(after string) iter.Seq2[string, replication.Meta] {
	return func(yield func(string, replication.Meta) bool) {
		metas := make(map[string]replication.Meta)
		m.mu.Lock()
		for key, r := range m.records {
			if key > after && !m.damaged[key] {
				metas[key] = r.Meta()
			}
		}
		m.mu.Unlock()
		for _, key := range slices.Sorted(maps.Keys(metas)) {
			if !yield(key, metas[key]) {
				return
			}
		}
	}
}

// Range implements replication.Store. It looks at all records.
func (m *Memory) Range(span replication.Span) (replication.Stretch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.damaged {
		if _, known := m.records[key]; !known {
			return replication.Stretch{}, fmt.Errorf("%w: of an unknown key", replication.ErrDamaged)
		}
	}
	var found replication.Stretch
	for _, key := range slices.Sorted(maps.Keys(m.records)) {
		switch {
		case key <= span.After || !strings.HasPrefix(key, span.Prefix):
		case len(found.Entries) == span.Limit:
			found.More = true
			return found, nil
		default:
			found.Entries = append(found.Entries, replication.Entry{Key: key, Meta: m.records[key].Meta()})
		}
	}
	return found, nil
}

// Writable implements replication.Store.
func (m *Memory) Writable() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault
}
