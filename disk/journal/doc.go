// Package journal keeps entries in the order in which they were appended, durably and cheaply:
// all who wait for the disk at the same time share one write and one sync.
//
// It knows nothing of what the entries say. Whoever uses it keeps elsewhere what old entries
// tell, and then removes their segments.
//
//	j, err := journal.Open(cfg, 1, func(at journal.Position, payload []byte, damage error) error {
//		return replay(payload) // in order, before anything is appended
//	})
//	if err != nil {
//		return err
//	}
//	defer j.Close()
//	at, err := j.Append(nil, payload) // durable now
//
// # Terms
//
//   - segment: one file, numbered without holes, named by 16 hexadecimal digits. Its first bytes
//     are a header with its number and a random number. Both go into every checksum in it.
//   - frame: what one write appended to a segment, a head and one or more entries. Frames do not
//     overlap in time: one is written only when the one before is synced.
//   - spare: a segment that was removed and is to be used again. Its blocks are there, so it
//     costs no room and no wait to make the next segment of it.
//
// # What replay can tell
//
// Every frame carries checksums that cover where it is, so that bytes of other places, other
// segments, an earlier use of the file or an entry's payload are never taken for one.
//
// At the end of the last segment, a frame that is not whole was being written when the process
// or the power ended. It was not acknowledged, and replay ends before it. Anywhere else it was
// synced once, and something damaged it. A frame is known to have been synced if
//
//   - a whole frame follows it in its segment, wherever that is, or
//   - the next segment has a frame: the first one tells where the segment before it ended.
//
// Replay tells such damage and goes on behind it. The one thing it cannot tell is damage to the
// very last frame of the journal from one that was never finished.
//
// Segments have their full length, blank or with what they held before, from when they get
// their number. So appending takes no room on the disk and changes no length, and a segment
// that is shorter than its header says is damaged.
//
// # Errors
//
// An error that wraps [ErrNotWritten] left nothing behind; appending can be tried again. After
// any other error of a write or a sync nothing is known of what reached the disk. The journal
// has then failed for good: a second sync might succeed without having written anything.
//
// The last frame that Open finds may not be on the disk, for the same reason. Open writes it
// again, over itself, and syncs it before it returns.
//
// A [Journal] starts no goroutine.
package journal
