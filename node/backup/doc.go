// Package backup writes and reads the one file in which a backup of a cluster is kept.
//
// It is the format and nothing else. What belongs into a backup, and what becomes of one that is given to a cluster,
// package replication decides; how it gets from a node to a disk and back is for package node and the command.
//
// # Format
//
// A file is a line of text and then frames. Numbers are big-endian:
//
//	file      "snakes-backup 1\n", frames
//	frame     kind (1), length of the body (4), body, sum (4)
//	kinds     h: Header, JSON
//	          s: the seen set of what is in the file
//	          r: a record: length of the key (1), key, version (28), flags (1), length of the
//	             content type (2), content type, and the value up to the end
//	          c: the set of writes that may have been deletions of which nothing is left
//	          t: Trailer, JSON
//
// One h, one s, any number of r by ascending key, one c, one t, in that order, and nothing after it. The sum is a CRC32C
// of the sum of the frame before (of the first line, for the first frame) and then of kind, length and body, so that
// frames can neither change places nor be left out. The trailer counts the records and holds the SHA-256 of all that comes
// before its frame. The lengths of keys, content types and values are bounded, see the constants.
//
// # Invariants
//
//   - A record that Reader.Next returns was written as it is, and so was all before it: it is good before the rest of
//     the file is known.
//   - io.EOF comes only after a whole trailer that fits what was read, and nothing behind it. A file that was cut, at any
//     byte, or in which a byte differs, or to which one was added, ends with ErrDamaged.
//   - Whatever a file claims, reading it takes memory in proportion to the bytes that are there, and to the largest
//     record of those.
//
// The sums find damage, not malice: whoever can write the file can make one that is whole.
//
// # When things go wrong
//
// An error of the Writer's destination ends the backup; what was written has no trailer, and is refused. A file of a later
// format is refused with ErrFormat, which says so: it is none that is damaged.
//
//	w, err := backup.NewWriter(file, backup.Header{Cluster: "snakes", Time: time.Now()}, seen)
//	err = w.Write(record) // by ascending key
//	trailer, err := w.Close(collected)
//
//	header, trailer, err := backup.Verify(file)
package backup
