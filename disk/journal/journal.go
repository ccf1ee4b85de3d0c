package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

var (
	// ErrNotWritten is wrapped by errors of Append and Prepare after which nothing has changed.
	ErrNotWritten = errors.New("nothing was written")
	// ErrDamaged is wrapped by errors about bytes that are not what was written.
	ErrDamaged = errors.New("journal is damaged")
	// ErrRemoved is returned by ReadAt for a position in a segment that was removed.
	ErrRemoved = errors.New("segment was removed")
)

// Files is the directory of a journal, which nobody else uses.
type Files interface {
	List() ([]string, error)
	// Create makes a file, which is not there.
	Create(name string) (File, error)
	// Open opens a file for reading and writing.
	Open(name string) (File, error)
	// Rename gives a file a name that no other has.
	Rename(from, to string) error
	Remove(name string) error
	// SyncNames returns when the names would survive a power cut.
	SyncNames() error
}

// File is an open file. Reading and writing may go on at the same time.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	// Sync returns when content and length would survive a power cut.
	Sync() error
}

// Config says where a Journal is and what it takes.
type Config struct {
	Files Files
	// SegmentBytes is the length of a segment. Default 4 MiB. Larger ones make fewer files,
	// and each takes its room at once. A frame that is longer makes its segment longer.
	SegmentBytes int64
	// SlackBytes at the end of each segment are left to AppendLast. Default 4 KiB.
	SlackBytes int64
	// Passing reports whether an error of making, opening or writing a file, but not of a sync,
	// says that the machine is short of something, such as room on the disk, which may pass.
	// nil: there are no such errors.
	Passing func(error) bool
	// Synced, unless nil, is told how long each sync of appended entries took that did not fail.
	// It must not block: all who append wait for it.
	Synced func(took time.Duration)
}

const (
	defaultSegment = 4 << 20
	defaultSlack   = 4 << 10
	// maxFrame is how long a frame may grow by what joins it.
	maxFrame = 1 << 20
)

// Position says where an entry is.
type Position struct {
	Segment uint64
	Offset  int64
}

// Journal is a log of entries in numbered segments. It is safe for concurrent use.
type Journal struct {
	files   Files
	segment int64
	slack   int64
	passing func(error) bool
	synced  func(took time.Duration)

	// leading has an element while somebody writes. That one owns end and changes current.
	leading chan struct{}
	end     int64 // where the next frame goes in current
	before  int64 // where the segment before current ended

	preparing sync.Mutex // held while next is made or taken

	mu       sync.RWMutex // guards the fields below
	queue    []*batch
	free     [][]byte
	failed   error
	segments map[uint64]*segment // those that can be read, next excluded
	oldest   uint64
	current  *segment
	next     *segment // prepared, to follow current; nil: not yet
	spare    bool     // there is a file "spare"
}

// segment is an open segment.
type segment struct {
	header
	file   File
	length int64 // of the file
}

// batch is a frame that gathers entries until its turn comes.
type batch struct {
	buffer []byte
	done   chan struct{} // closed once the fields below tell the outcome
	over   bool
	err    error
	number uint64
	offset int64
}

// Append appends one entry for each payload, in order and with nothing in between: all of
// them or, after a crash, none. When it returns nil they are durable and their positions are appended
// to at. It keeps no reference to the payloads. Errors: ErrNotWritten; any other one means that
// the journal has failed, now or before, and what was appended now may or may not be there.
func (j *Journal) Append(at []Position, payloads ...[]byte) ([]Position, error) {
	if len(payloads) == 0 {
		return at, nil
	}
	b, offset := j.join(payloads)
	select {
	case <-b.done:
	case j.leading <- struct{}{}:
		for !b.over {
			j.commit()
		}
		<-j.leading
	}
	if b.err != nil {
		return at, b.err
	}
	for _, p := range payloads {
		at = append(at, Position{Segment: b.number, Offset: b.offset + offset})
		offset += int64(entryHead + len(p))
	}
	return at, nil
}

// join adds entries to a batch that has yet to be written and returns their offset in it.
func (j *Journal) join(payloads [][]byte) (*batch, int64) {
	need := 0
	for _, p := range payloads {
		need += entryHead + len(p)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var b *batch
	if n := len(j.queue); n > 0 && len(j.queue[n-1].buffer)+need <= maxFrame {
		b = j.queue[n-1]
	} else {
		b = j.newBatch()
		j.queue = append(j.queue, b)
	}
	offset := len(b.buffer)
	for _, p := range payloads {
		b.buffer = appendEntry(b.buffer, p)
	}
	return b, int64(offset)
}

func (j *Journal) newBatch() *batch {
	b := &batch{done: make(chan struct{})}
	if n := len(j.free); n > 0 {
		b.buffer, j.free = j.free[n-1], j.free[:n-1]
	}
	b.buffer = append(b.buffer[:0], make([]byte, headSize)...)
	return b
}

// commit writes the first batch that waits. The caller leads.
func (j *Journal) commit() {
	j.mu.Lock()
	b := j.queue[0]
	j.queue[0] = nil
	j.queue = j.queue[1:]
	j.mu.Unlock()

	b.err = j.write(b, false)
	b.over = true
	close(b.done)

	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.free) < 2 && cap(b.buffer) <= 2*maxFrame {
		j.free = append(j.free, b.buffer)
	}
	b.buffer = nil
	if len(j.queue) == 0 {
		j.queue = nil
	}
}

// AppendLast appends one short entry as Append does, but if there is no room for another
// segment it may use what Append leaves at the end of each.
func (j *Journal) AppendLast(payload []byte) error {
	j.mu.Lock()
	b := j.newBatch()
	j.mu.Unlock()
	b.buffer = appendEntry(b.buffer, payload)
	j.leading <- struct{}{}
	defer func() { <-j.leading }()
	return j.write(b, true)
}

// write makes a batch a frame at the end of the journal, durably. The caller leads.
func (j *Journal) write(b *batch, last bool) error {
	if err := j.broken(); err != nil {
		return err
	}
	length := int64(align(len(b.buffer)))
	room := j.segment - j.end
	if length > room-j.slack && length <= j.segment-j.slack-headerSize || room <= 0 {
		if err := j.advance(); err != nil && !(last && errors.Is(err, ErrNotWritten) && length <= room) {
			return err
		}
	}
	s := j.current // only who leads changes it
	frame := seal(b.buffer, s.seed(), j.end, j.before)
	if _, err := s.file.WriteAt(frame, j.end); err != nil {
		if j.passing(err) { // a part of a frame is none, and the next one goes over it
			return fmt.Errorf("%w: %w", ErrNotWritten, err)
		}
		return j.fail(fmt.Errorf("write journal: %w", err))
	}
	began := time.Now()
	if err := s.file.Sync(); err != nil {
		return j.fail(fmt.Errorf("sync journal: %w", err))
	}
	j.synced(time.Since(began))
	b.buffer, b.number, b.offset = frame, s.number, j.end
	j.end += length
	if j.end > s.length {
		j.mu.Lock()
		s.length = j.end
		j.mu.Unlock()
	}
	return nil
}

// advance makes next the current segment. The caller leads.
func (j *Journal) advance() error {
	j.preparing.Lock()
	defer j.preparing.Unlock()
	if err := j.prepare(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.current, j.next = j.next, nil
	j.segments[j.current.number] = j.current
	j.before, j.end = j.end, headerSize
	return nil
}

// Rotate ends the current segment and returns its number: all that was appended before is in
// it and the ones before it, all that is appended later is not.
func (j *Journal) Rotate() (uint64, error) {
	j.leading <- struct{}{}
	defer func() { <-j.leading }()
	if err := j.broken(); err != nil {
		return 0, err
	}
	if err := j.advance(); err != nil {
		return 0, err
	}
	return j.current.number - 1, nil
}

// Prepare makes the segment that will follow the current one, unless it is there. Whoever calls
// it early spares Append the wait. Errors as for Append.
func (j *Journal) Prepare() error {
	j.preparing.Lock()
	defer j.preparing.Unlock()
	if err := j.broken(); err != nil {
		return err
	}
	return j.prepare()
}

// Prepared reports whether the segment that will follow is there.
func (j *Journal) Prepared() bool {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.next != nil
}

const spareName = "spare"

// prepare makes next. A segment gets its number when its header and its full length are synced.
func (j *Journal) prepare() error {
	j.mu.RLock()
	number, spare, prepared := j.oldest, j.spare, j.next != nil
	if j.current != nil {
		number = j.current.number + 1
	}
	j.mu.RUnlock()
	if prepared {
		return nil
	}
	s := &segment{header: header{number: number, size: uint64(j.segment)}, length: j.segment}
	var nonce [8]byte
	rand.Read(nonce[:]) // it never fails
	s.nonce = binary.BigEndian.Uint64(nonce[:])
	if err := j.make(s, spare); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next, j.spare = s, false
	return nil
}

func (j *Journal) make(s *segment, spare bool) (err error) {
	if spare {
		s.file, err = j.files.Open(spareName)
	} else if s.file, err = j.files.Create(spareName); err == nil {
		if _, err = s.file.WriteAt(make([]byte, j.segment), 0); err == nil {
			err = s.file.Sync() // while a full disk is told here, it is harmless
		}
	}
	if err != nil && j.passing(err) {
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
		}
		if !spare {
			_ = j.files.Remove(spareName) // Open removes it if this fails
		}
		return fmt.Errorf("%w: new segment: %w", ErrNotWritten, err)
	}
	if err == nil {
		_, err = s.file.WriteAt(s.encode(), 0)
	}
	if err == nil {
		err = s.file.Sync()
	}
	if err == nil {
		err = s.file.Close() // some systems rename no open file
	}
	if err != nil {
		return j.fail(fmt.Errorf("new segment of the journal: %w", err))
	}
	return j.enlist(s)
}

// enlist gives the spare, which is the blank segment s, its number.
func (j *Journal) enlist(s *segment) error {
	err := j.files.Rename(spareName, name(s.number))
	if err != nil && j.passing(err) {
		j.mu.Lock()
		j.spare = true
		j.mu.Unlock()
		return fmt.Errorf("%w: new segment: %w", ErrNotWritten, err)
	}
	if err == nil {
		err = j.files.SyncNames()
	}
	if err == nil {
		s.file, err = j.files.Open(name(s.number))
		if err != nil && j.passing(err) { // another one will take its place
			j.mu.Lock()
			j.spare = false
			j.mu.Unlock()
			return fmt.Errorf("%w: new segment: %w", ErrNotWritten, err)
		}
	}
	if err != nil {
		return j.fail(fmt.Errorf("new segment of the journal: %w", err))
	}
	return nil
}

func name(number uint64) string { return fmt.Sprintf("%016x", number) }

// ReadAt returns the payload of the entry at a position that Append or Open told, in a buffer
// of the caller's own. Errors wrap ErrRemoved, ErrDamaged or what reading returned.
func (j *Journal) ReadAt(p Position) ([]byte, error) {
	j.mu.RLock()
	defer j.mu.RUnlock() // so that the segment is not closed
	s := j.segments[p.Segment]
	if s == nil {
		return nil, fmt.Errorf("read segment %d: %w", p.Segment, ErrRemoved)
	}
	head := make([]byte, entryHead)
	if _, err := s.file.ReadAt(head, p.Offset); err != nil {
		return nil, fmt.Errorf("read segment %d: %w", p.Segment, err)
	}
	length := int64(binary.BigEndian.Uint32(head))
	if length > s.length-p.Offset-entryHead {
		return nil, fmt.Errorf("%w: no entry at %+v", ErrDamaged, p)
	}
	entry := append(head, make([]byte, length)...)
	if _, err := s.file.ReadAt(entry[entryHead:], p.Offset+entryHead); err != nil {
		return nil, fmt.Errorf("read segment %d: %w", p.Segment, err)
	}
	payload, _, err := parseEntry(entry)
	return payload, err
}

// Remove removes all segments up to the given one, oldest first, except the current one. After
// a power cut some of them may be back.
func (j *Journal) Remove(upto uint64) error {
	j.preparing.Lock() // who else uses the spare
	defer j.preparing.Unlock()
	for {
		j.mu.Lock()
		s, number := j.segments[j.oldest], j.oldest
		if number > upto || number >= j.current.number {
			j.mu.Unlock()
			return nil
		}
		delete(j.segments, number)
		j.oldest++
		reuse := s != nil && s.number == number && !j.spare && s.length == j.segment && j.failed == nil
		j.mu.Unlock()
		if s == nil { // it was missing when the journal was opened
			continue
		}
		if err := s.file.Close(); err != nil {
			return fmt.Errorf("remove segment %d: %w", number, err)
		}
		var err error
		if reuse {
			err = j.files.Rename(name(number), spareName)
			reuse = err == nil
		}
		if !reuse && (err == nil || j.passing(err)) {
			err = j.files.Remove(name(number))
		}
		if err != nil {
			return fmt.Errorf("remove segment %d: %w", number, err)
		}
		if reuse {
			j.mu.Lock()
			j.spare = true
			j.mu.Unlock()
		}
	}
}

// Count returns how many segments there are but for those prepared.
func (j *Journal) Count() int {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return len(j.segments)
}

// Segments returns the numbers of the oldest segment and the current one.
func (j *Journal) Segments() (oldest, current uint64) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.oldest, j.current.number
}

// Size returns the length of all segments but those prepared, in bytes.
func (j *Journal) Size() int64 {
	j.mu.RLock()
	defer j.mu.RUnlock()
	var size int64
	for _, s := range j.segments {
		size += s.length
	}
	return size
}

func (j *Journal) broken() error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.failed
}

// fail ends all writing because of err.
func (j *Journal) fail(err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil {
		j.failed = err
	}
	return j.failed
}

// Close waits for appends under way and closes the files. Nobody may use j from then on.
func (j *Journal) Close() error {
	j.leading <- struct{}{}
	j.preparing.Lock()
	defer j.preparing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed = errors.New("journal is closed")
	return j.closeFiles()
}

func (j *Journal) closeFiles() error {
	var errs []error
	for _, s := range j.segments {
		errs = append(errs, s.file.Close())
	}
	if j.next != nil {
		errs = append(errs, j.next.file.Close())
	}
	return errors.Join(errs...)
}
