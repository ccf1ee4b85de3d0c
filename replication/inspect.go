package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
	"time"

	"github.com/protocol7/snakes/replication/version"
)

// Inspection is what the members hold of one key.
type Inspection struct {
	Key string
	// Winner is the newest version found, which reads at a high enough level return; zero if
	// none was found.
	Winner version.Version
	// Why says in a sentence for people how the winner was told from the others.
	Why string
	// Copies has one element per member, learners included, ascending by id.
	Copies []Copy
}

// Copy is what one member holds of a key.
type Copy struct {
	ID, Name string
	State    CopyState
	// Version, Size and Checksum, the CRC-32C of the value, are zero unless State is
	// CopyPresent, or for Version CopyDeleted.
	Version  version.Version
	Size     int64
	Checksum uint32
	// Err is why the copy is damaged or its holder unreachable.
	Err error
}

// CopyState is the state of a Copy, in the words that users see.
type CopyState string

// The states of a Copy.
const (
	CopyPresent     CopyState = "present"
	CopyAbsent      CopyState = "absent"      // never written, as far as the member knows
	CopyDeleted     CopyState = "deleted"     // a tombstone
	CopyDamaged     CopyState = "damaged"     // there, but unreadable: unknown, not absent
	CopyUnreachable CopyState = "unreachable" // no answer, or one that makes no sense
)

// Inspect asks every member, live or not, for its record of key, body included, and changes
// nothing. Who has not answered after Config.Silence is unreachable. The error wraps ErrBadKey
// or ErrClosed, or is ctx's. Safe for concurrent use.
func (c *Coordinator) Inspect(ctx context.Context, key string) (Inspection, error) {
	if err := ValidKey(key); err != nil {
		return Inspection{}, fmt.Errorf("inspect: %w", err)
	}
	if err := c.enter(); err != nil {
		return Inspection{}, fmt.Errorf("inspect: %w", err)
	}
	defer c.leave()

	view := c.cfg.Members.View()
	asked, cancel := context.WithTimeout(ctx, c.cfg.Silence)
	defer cancel()
	in := Inspection{Key: key, Copies: make([]Copy, len(view.Members))}
	var all sync.WaitGroup
	for i, m := range view.Members {
		all.Go(func() {
			in.Copies[i] = c.inspect(ctx, asked, key, m, m.ID == view.Self)
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return Inspection{}, fmt.Errorf("inspect: %w", err)
	}
	in.Winner, in.Why = verdictOn(in.Copies)
	return in, nil
}

// inspect asks one member until asked ends; ctx is the caller's.
func (c *Coordinator) inspect(ctx, asked context.Context, key string, m Member, self bool) Copy {
	found := Copy{ID: m.ID, Name: cmp.Or(m.Name, m.ID)}
	var record Record
	if self {
		record, found.Err = c.replica.Fetch(key)
	} else {
		sent := time.Now()
		record, found.Err = c.cfg.Peers.Fetch(asked, m.ID, key)
		if ctx.Err() == nil {
			c.report(m.ID, sent, found.Err)
		}
	}
	switch {
	case errors.Is(found.Err, ErrNotFound):
		found.State, found.Err = CopyAbsent, nil
	case errors.Is(found.Err, ErrDamaged):
		found.State = CopyDamaged
	case found.Err != nil:
		found.State = CopyUnreachable
	case record.Deleted:
		found.State, found.Version = CopyDeleted, record.Version
	default:
		found.State, found.Version = CopyPresent, record.Version
		found.Size = int64(len(record.Value))
		found.Checksum = crc32.Checksum(record.Value, castagnoli)
	}
	return found
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verdictOn returns the newest version among copies, and why it is the newest.
func verdictOn(copies []Copy) (winner version.Version, why string) {
	var second version.Version // the newest but for winner
	holders, unknown := 0, 0
	deleted := false
	for _, found := range copies {
		if found.State == CopyDamaged || found.State == CopyUnreachable {
			unknown++
			continue
		}
		switch found.Version.Compare(winner) {
		case +1:
			winner, second, holders = found.Version, winner, 1
			deleted = found.State == CopyDeleted
		case 0:
			holders++
		case -1:
			if found.Version.Compare(second) > 0 {
				second = found.Version
			}
		}
	}
	var b strings.Builder
	if winner.IsZero() {
		fmt.Fprintf(&b, "%d of %d members answered and none has a record of the key", len(copies)-unknown, len(copies))
	} else {
		fmt.Fprintf(&b, "%d of %d members hold it; %s", holders, len(copies), precedence(winner, second))
		if deleted {
			b.WriteString("; it is a deletion, so the key has no value")
		}
	}
	if unknown > 0 {
		fmt.Fprintf(&b, "; what %d of them hold is unknown and may be newer", unknown)
	}
	return winner, b.String()
}

// precedence says what makes winner come after second.
func precedence(winner, second version.Version) string {
	switch {
	case second.IsZero():
		return "no other version was found"
	case winner.Timestamp != second.Timestamp:
		return "its timestamp is the highest"
	case winner.Origin != second.Origin:
		return "its timestamp is that of another version, and its origin is the higher one"
	}
	return "its timestamp and origin are those of another version, and its counter is the higher one"
}
