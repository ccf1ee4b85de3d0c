package disk

import (
	"github.com/protocol7/snakes/disk/journal"
)

// journalDir holds the segments of the journal.
const journalDir = "journal"

// journalFiles is the directory of the journal as that sees it.
type journalFiles struct{ fs fileSystem }

func (j journalFiles) List() ([]string, error) { return j.fs.List(journalDir) }

func (j journalFiles) Create(name string) (journal.File, error) { return j.open(name, createNew) }

func (j journalFiles) Open(name string) (journal.File, error) { return j.open(name, readWrite) }

func (j journalFiles) open(name string, flag int) (journal.File, error) {
	f, err := j.fs.OpenFile(join(journalDir, name), flag)
	if err != nil {
		return nil, err
	}
	return segmentFile{f}, nil
}

func (j journalFiles) Rename(from, to string) error {
	return j.fs.Rename(join(journalDir, from), join(journalDir, to))
}

func (j journalFiles) Remove(name string) error { return j.fs.Remove(join(journalDir, name)) }

func (j journalFiles) SyncNames() error {
	d, err := j.fs.OpenDir(journalDir)
	if err != nil {
		return err
	}
	defer closeRead(d)
	return d.Sync()
}

type segmentFile struct{ file }

func (f segmentFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
