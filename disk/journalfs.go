package disk

import (
	"github.com/protocol7/snakes/disk/journal"
)

// journalDir holds the segments of the journal.
const journalDir = "journal"

// journalFiles is the directory of the journal as that sees it.
type journalFiles struct{ fs fileSystem }

// List implements journal.Files.
func (j journalFiles) List() ([]string, error) { return j.fs.List(journalDir) }

// Create implements journal.Files.
func (j journalFiles) Create(name string) (journal.File, error) { return j.open(name, createNew) }

// Open implements journal.Files.
func (j journalFiles) Open(name string) (journal.File, error) { return j.open(name, readWrite) }

func (j journalFiles) open(name string, flag int) (journal.File, error) {
	f, err := j.fs.OpenFile(join(journalDir, name), flag)
	if err != nil {
		return nil, err
	}
	return segmentFile{f}, nil
}

// Rename implements journal.Files.
func (j journalFiles) Rename(from, to string) error {
	return j.fs.Rename(join(journalDir, from), join(journalDir, to))
}

// Remove implements journal.Files.
func (j journalFiles) Remove(name string) error { return j.fs.Remove(join(journalDir, name)) }

// SyncNames implements journal.Files.
func (j journalFiles) SyncNames() error {
	d, err := j.fs.OpenDir(journalDir)
	if err != nil {
		return err
	}
	defer closeRead(d)
	return d.Sync()
}

type segmentFile struct{ file }

// Size implements journal.File.
func (f segmentFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
