package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"

	"github.com/google/btree"

	"github.com/protocol7/snakes/replication/version"
)

// A save is the index and the history as of the end of a segment of the journal, so that Open
// need not look at each file. There are two files for it, which take turns: while one is
// written, over what it held, the other is whole. The segments that the older one lacks are
// kept, so that it is as good as the newer, and only takes longer.
//
//	save     its line of text, then parts
//	part     length (4), sum (4), payload
//	first    covers (8), number of records (8), number of files (8) that cannot be read,
//	         length (4) and name of each, history
//	others   records: length of the key (1), key, version, size * 4 + flags as a varint
//	last     empty
//
// Each sum begins with that of the line of text and the ones before, so that no part of what
// the file held earlier is taken for one of now.
const (
	saveMark  = "snakes1 index %020d\n"
	partBytes = 64 << 10

	deletedFlag = 1
	damagedFlag = 2
)

var saveFiles = [2]string{"index-a", "index-b"}

// contents is what a save holds.
type contents struct {
	covers     uint64 // all that the segments of the journal up to this one say is in it
	records    *btree.BTreeG[*entry]
	unreadable []string
	history    history
}

// save makes a save that covers all up to a segment.
func (s *Store) save(covers uint64, c contents) error {
	c.covers = covers
	generation := s.generation + 1
	name := saveFiles[generation%2]
	var size int64
	err := s.volume.attempt(true, func() (err error) {
		size, err = s.volume.writeSave(name, generation, c)
		return err
	})
	if err != nil {
		return fmt.Errorf("save index: %w", err)
	}
	if !s.saves[name] {
		if err := s.volume.settle(topDir); err != nil {
			return fmt.Errorf("save index: %w", err)
		}
		s.saves[name] = true
	}
	s.generation = generation
	s.saved.Store(covers)
	s.savedBytes.Store(size)
	return nil
}

func (v *volume) writeSave(name string, generation uint64, c contents) (size int64, err error) {
	f, err := v.fs.OpenFile(name, inPlace)
	if err != nil {
		return 0, v.judge(err)
	}
	w := &saveWriter{file: f}
	w.line(generation)
	w.contents(c)
	if err = w.err; err == nil {
		err = f.Truncate(w.size)
	}
	if err == nil {
		if err = f.Sync(); err != nil {
			err = syncError{fmt.Errorf("sync %s: %w", name, err)}
		}
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return w.size, v.judge(err)
}

type saveWriter struct {
	file file
	size int64
	sum  uint32
	part []byte // begins with room for its head
	err  error
}

func (w *saveWriter) line(generation uint64) {
	line := fmt.Appendf(nil, saveMark, generation)
	w.sum = crc32.Checksum(line, castagnoli)
	w.write(line)
}

func (w *saveWriter) write(b []byte) {
	if w.err == nil {
		_, w.err = w.file.WriteAt(b, w.size)
		w.size += int64(len(b))
	}
}

func (w *saveWriter) contents(c contents) {
	w.part = make([]byte, 8, partBytes+1<<10)
	for _, n := range [...]uint64{c.covers, uint64(c.records.Len()), uint64(len(c.unreadable))} {
		w.part = binary.BigEndian.AppendUint64(w.part, n)
	}
	for _, name := range c.unreadable {
		w.part = binary.BigEndian.AppendUint32(w.part, uint32(len(name)))
		w.part = append(w.part, name...)
	}
	w.part = append(w.part, c.history.encode()...)
	w.end()
	c.records.Ascend(func(e *entry) bool {
		w.part = appendSaved(w.part, e)
		if len(w.part) >= partBytes {
			w.end()
		}
		return w.err == nil
	})
	if len(w.part) > 8 {
		w.end()
	}
	w.end()
}

// end writes the part.
func (w *saveWriter) end() {
	payload := w.part[8:]
	w.sum = crc32.Update(w.sum, castagnoli, payload)
	binary.BigEndian.PutUint32(w.part, uint32(len(payload)))
	binary.BigEndian.PutUint32(w.part[4:], w.sum)
	w.write(w.part)
	w.part = w.part[:8]
}

func appendSaved(b []byte, e *entry) []byte {
	b = append(append(b, byte(len(e.key))), e.key...)
	b, _ = e.meta.Version.AppendBinary(b) // its error is always nil
	flags := uint64(e.meta.Size) << 2
	if e.meta.Deleted {
		flags |= deletedFlag
	}
	if e.damaged {
		flags |= damagedFlag
	}
	return binary.AppendUvarint(b, flags)
}

// savedEntry reads an entry from the start of b and returns the bytes behind it. The key is a
// part of text, which holds the same bytes as b.
func savedEntry(b []byte, text string) (e entry, rest []byte, err error) {
	if len(b) == 0 || len(b) < 1+int(b[0])+version.Size+1 {
		return entry{}, nil, fmt.Errorf("%w: saved record cut short", errFormat)
	}
	n := 1 + int(b[0])
	e.key = text[1:n]
	if e.meta.Version, err = version.Decode(b[n:]); err != nil {
		return entry{}, nil, fmt.Errorf("%w: saved record: %w", errFormat, err)
	}
	flags, used := binary.Uvarint(b[n+version.Size:])
	if used <= 0 {
		return entry{}, nil, fmt.Errorf("%w: size of a saved record", errFormat)
	}
	e.meta.Size = int64(flags >> 2)
	e.meta.Deleted = flags&deletedFlag != 0
	e.damaged = flags&damagedFlag != 0
	return e, b[n+version.Size+used:], nil
}

// savedGeneration returns the number of a save from its line of text.
func savedGeneration(data []byte) (generation uint64, line int, ok bool) {
	line = len(fmt.Sprintf(saveMark, 0))
	if len(data) < line {
		return 0, 0, false
	}
	if _, err := fmt.Sscanf(string(data[:line]), saveMark, &generation); err != nil {
		return 0, 0, false
	}
	return generation, line, string(fmt.Appendf(nil, saveMark, generation)) == string(data[:line])
}

// parseSave reads a save into an empty index. The records in c are left out.
func parseSave(data []byte, x *index) (c contents, err error) {
	_, line, ok := savedGeneration(data)
	if !ok {
		return c, fmt.Errorf("%w: no save", errFormat)
	}
	r := partReader{rest: data[line:], sum: crc32.Checksum(data[:line], castagnoli)}
	first, err := r.next()
	if err != nil {
		return c, err
	}
	c, count, err := parseFirst(first)
	if err != nil {
		return c, err
	}
	load := x.loader()
	defer load.end()
	for {
		part, err := r.next()
		if err != nil {
			return c, err
		}
		if len(part) == 0 {
			break
		}
		for text := string(part); len(part) > 0; {
			var e entry
			before := len(part)
			if e, part, err = savedEntry(part, text); err != nil {
				return c, err
			}
			text = text[before-len(part):]
			load.add(e)
			count--
		}
	}
	if count != 0 || len(r.rest) > 0 {
		return c, fmt.Errorf("%w: %d records too few in a save, or bytes behind it", errFormat, int64(count))
	}
	for _, name := range c.unreadable {
		x.setUnreadable(name)
	}
	return c, nil
}

func parseFirst(b []byte) (c contents, count uint64, err error) {
	if len(b) < 24 {
		return c, 0, fmt.Errorf("%w: save cut short", errFormat)
	}
	c.covers, count = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	n := binary.BigEndian.Uint64(b[16:])
	b = b[24:]
	for range n {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
			return c, 0, fmt.Errorf("%w: save cut short", errFormat)
		}
		end := 4 + int(binary.BigEndian.Uint32(b))
		c.unreadable = append(c.unreadable, string(b[4:end]))
		b = b[end:]
	}
	c.history, err = decodeHistory(b)
	return c, count, err
}

type partReader struct {
	rest []byte
	sum  uint32
}

// next returns the next part.
func (r *partReader) next() ([]byte, error) {
	if len(r.rest) < 8 || uint64(len(r.rest)-8) < uint64(binary.BigEndian.Uint32(r.rest)) {
		return nil, fmt.Errorf("%w: save cut short", errFormat)
	}
	end := 8 + int(binary.BigEndian.Uint32(r.rest))
	part := r.rest[8:end]
	r.sum = crc32.Update(r.sum, castagnoli, part)
	if binary.BigEndian.Uint32(r.rest[4:]) != r.sum {
		return nil, fmt.Errorf("%w: checksum of a save", errFormat)
	}
	r.rest = r.rest[end:]
	return part, nil
}

// loadSave fills the index and the history from the newer save that is whole, and reports
// whether there is one.
func (s *Store) loadSave() (found bool, err error) {
	type candidate struct {
		name       string
		generation uint64
		data       []byte
	}
	var saves []candidate
	for _, name := range saveFiles {
		data, err := s.volume.fs.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("read save: %w", err)
		}
		s.saves[name] = true
		generation, _, _ := savedGeneration(data)
		saves = append(saves, candidate{name, generation, data})
	}
	slices.SortFunc(saves, func(a, b candidate) int { return int(b.generation) - int(a.generation) })
	for _, save := range saves {
		x := newIndex()
		c, err := parseSave(save.data, x)
		if err != nil {
			s.logger.Warn("saved index is not whole, which an end while it is written makes it; using what else there is",
				"file", save.name, "error", err)
			continue
		}
		s.index = x
		s.memory.durable = c.history
		s.generation = save.generation
		s.saved.Store(c.covers)
		s.savedBytes.Store(int64(len(save.data)))
		return true, nil
	}
	return false, nil
}
