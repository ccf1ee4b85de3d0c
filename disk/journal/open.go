package journal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// DamageError tells what replay had to leave out. It wraps ErrDamaged.
type DamageError struct {
	Segment uint64
	// Offset is where in the segment the damage begins.
	Offset int64
	// What says in words what is wrong.
	What string
}

// Error implements error.
func (e *DamageError) Error() string {
	return fmt.Sprintf("%v: segment %d from byte %d: %s", ErrDamaged, e.Segment, e.Offset, e.What)
}

// Unwrap makes every DamageError an ErrDamaged.
func (e *DamageError) Unwrap() error { return ErrDamaged }

// Replay is told each entry in order, and each damage where it lost entries, as a *DamageError
// without a payload. An error of it ends Open. The payload may be kept until it returns.
type Replay func(at Position, payload []byte, damage error) error

// Open opens the journal in a directory and replays the segments from the given one on; 0 means
// from the oldest one on. Older ones are kept for Remove to remove. What is appended goes into the given
// segment or a later one; in an empty directory that segment is made.
//
// What replay was told may be lost in a power cut until Open has returned. Open needs no room
// on the disk if there is a segment from the given one on with room left in it.
func Open(cfg Config, from uint64, replay Replay) (*Journal, error) {
	j := &Journal{
		files:    cfg.Files,
		segment:  cmp.Or(cfg.SegmentBytes, defaultSegment),
		slack:    cmp.Or(cfg.SlackBytes, defaultSlack),
		passing:  cfg.Passing,
		synced:   cfg.Synced,
		leading:  make(chan struct{}, 1),
		segments: make(map[uint64]*segment),
		oldest:   from,
	}
	if j.passing == nil {
		j.passing = func(error) bool { return false }
	}
	if j.synced == nil {
		j.synced = func(time.Duration) {}
	}
	numbers, err := j.list()
	if from == 0 {
		if from = 1; len(numbers) > 0 {
			from = numbers[0]
		}
		j.oldest = from
	}
	if err == nil {
		err = j.files.SyncNames() // a process that was killed may not have
	}
	if err == nil {
		err = j.read(numbers, from, replay)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal: %w", err), j.closeFiles())
	}
	return j, nil
}

// list returns the numbers of the segments there are and notes whether there is a spare.
func (j *Journal) list() ([]uint64, error) {
	names, err := j.files.List()
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, file := range names {
		if file == spareName {
			if err := j.files.Remove(file); err != nil { // it may be half made
				return nil, err
			}
		} else if number, err := strconv.ParseUint(file, 16, 64); err == nil && name(number) == file {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// read opens the segments, replays them, and finds where to go on.
func (j *Journal) read(numbers []uint64, from uint64, replay Replay) error {
	r := reader{journal: j, replay: replay, expected: from}
	for _, number := range numbers {
		if number < from {
			if _, _, err := j.keep(number); err != nil {
				return err
			}
			continue
		}
		if err := r.segment(number); err != nil {
			return err
		}
	}
	if len(numbers) > 0 {
		j.oldest = min(from, numbers[0])
	}
	return j.resume(&r)
}

// keep opens a segment and reads its header, if it has one.
func (j *Journal) keep(number uint64) (s *segment, ok bool, err error) {
	f, err := j.files.Open(name(number))
	if err != nil {
		return nil, false, err
	}
	s = &segment{file: f}
	j.segments[number] = s
	if s.length, err = f.Size(); err != nil {
		return nil, false, err
	}
	b := make([]byte, headerSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, fmt.Errorf("read segment %d: %w", number, err)
	}
	s.header, ok = parseHeader(b[:n])
	return s, ok && s.number == number, nil
}

// reader replays segments in order.
type reader struct {
	journal  *Journal
	replay   Replay
	expected uint64   // the number of the segment that should come next
	previous *segment // the one before that; nil if it is missing, without a header, or too old
	end      int64    // where the frames of previous end, headerSize if there are none
	tail     frame    // the last frame of previous, whose body is all of it, if there is one
	older    *reader  // as it was before previous was read; nil before the first segment
	content  []byte   // of the segment that is being read
}

func (r *reader) damaged(number uint64, offset int64, what string) error {
	return r.replay(Position{}, nil, &DamageError{Segment: number, Offset: offset, What: what})
}

// segment replays one segment.
func (r *reader) segment(number uint64) error {
	if number != r.expected {
		if err := r.damaged(r.expected, 0, "missing"); err != nil {
			return err
		}
		r.previous = nil
	}
	before := *r
	before.older, r.older = nil, &before
	r.expected, r.previous, r.end, r.tail = number+1, nil, headerSize, frame{}
	s, ok, err := r.journal.keep(number)
	if err != nil {
		return err
	}
	if !ok {
		return r.damaged(number, 0, "header")
	}
	if int64(cap(r.content)) < s.length {
		r.content = make([]byte, s.length)
	}
	r.content = r.content[:s.length]
	if n, err := s.file.ReadAt(r.content, 0); err != nil && (!errors.Is(err, io.EOF) || int64(n) < s.length) {
		return fmt.Errorf("read segment %d: %w", number, err)
	}
	if err := r.frames(s, &before); err != nil {
		return err
	}
	if s.length < int64(s.size) {
		return r.damaged(number, s.length, "cut short")
	}
	return nil
}

// frames replays the frames of a segment. before is r as the segment before left it.
func (r *reader) frames(s *segment, before *reader) error {
	r.previous = s
	seed := s.seed()
	for {
		f, found := nextFrame(r.content, seed, r.end)
		if !found {
			break
		}
		if r.end == headerSize && before.previous != nil && f.before > before.end {
			if err := r.damaged(s.number-1, before.end, fmt.Sprintf("should end at byte %d", f.before)); err != nil {
				return err
			}
		}
		if f.offset > r.end {
			if err := r.damaged(s.number, r.end, fmt.Sprintf("no whole frame before byte %d", f.offset)); err != nil {
				return err
			}
		}
		if err := r.entries(s, f); err != nil {
			return err
		}
		r.tail, r.end = f, f.end
	}
	if r.end > headerSize {
		r.tail.body = bytes.Clone(r.content[r.tail.offset:min(r.end, s.length)])
	}
	return nil
}

func (r *reader) entries(s *segment, f frame) error {
	offset := f.offset + headSize
	for rest := f.body; len(rest) > 0; {
		payload, next, err := parseEntry(rest)
		if err != nil { // though the frame's own sum holds
			return r.damaged(s.number, offset, "entry")
		}
		if err := r.replay(Position{Segment: s.number, Offset: offset}, payload, nil); err != nil {
			return err
		}
		rest, offset = next, offset+int64(entryHead+len(payload))
	}
	return nil
}

// resume makes the journal go on behind the last frame, which is made durable.
func (j *Journal) resume(r *reader) error {
	if r.previous == nil { // there is no segment, or the last one has no header
		j.oldest = min(j.oldest, r.expected)
		j.current = &segment{header: header{number: r.expected - 1}}
		return j.advance()
	}
	last := r
	if r.end == headerSize { // it was prepared, while the one before was written to
		last = r.older
	}
	if err := last.repeatTail(); err != nil {
		return err
	}
	if last != r && r.previous.length == j.segment && last.previous != nil && last.end > headerSize {
		j.next = r.previous
		delete(j.segments, j.next.number)
		r = last
	}
	j.current, j.end = r.previous, r.end
	switch {
	case r.end > headerSize:
		j.before = r.tail.before
	case r.older.previous != nil:
		j.before = r.older.end
	}
	return nil
}

// repeatTail writes the last frame of a segment again, if there is one, and syncs it: the process
// that wrote it may have died before its sync, or its sync may have failed, and then the frame can
// be read and is not on the disk.
func (r *reader) repeatTail() error {
	if r.previous == nil || r.end == headerSize {
		return nil
	}
	if _, err := r.previous.file.WriteAt(r.tail.body, r.tail.offset); err != nil {
		return err
	}
	return r.previous.file.Sync()
}
