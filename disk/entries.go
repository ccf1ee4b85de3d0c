package disk

import (
	"fmt"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// The entries of the journal. The first byte says what follows:
const (
	// recordEntry: what the file of a record holds. Its dot is seen.
	recordEntry = 'r'
	// dotsEntry: versions, whose dots are seen though newer records were there.
	dotsEntry = 'd'
	// historyEntry: an encoded history, all of which is added to what there is: a set that was
	// united, an origin that begins, or at the start of a segment all that came before.
	historyEntry = 'h'
	// dropEntry: a version and a key. Records of the key up to the version are gone.
	dropEntry = 'x'
)

// encodeRecord returns the entry of r. Without its first byte, it is what r's file will hold.
func encodeRecord(r replication.Record) []byte {
	b := make([]byte, 0, 1+headerRoom+len(r.Key)+len(r.ContentType)+len(r.Value))
	return appendRecord(append(b, recordEntry), r)
}

func encodeDots(versions []version.Version) []byte {
	b := append(make([]byte, 0, 1+len(versions)*version.Size), dotsEntry)
	for _, v := range versions {
		b, _ = v.AppendBinary(b) // its error is always nil
	}
	return b
}

func encodeHistoryEntry(h history) []byte { return append([]byte{historyEntry}, h.encode()...) }

func encodeDrop(key string, v version.Version) []byte {
	b, _ := v.AppendBinary([]byte{dropEntry}) // its error is always nil
	return append(b, key...)
}

func decodeDots(b []byte) (versions []version.Version, err error) {
	for ; len(b) > 0 && err == nil; b = b[min(version.Size, len(b)):] {
		var v version.Version
		v, err = version.Decode(b)
		versions = append(versions, v)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: dots: %w", errFormat, err)
	}
	return versions, nil
}

func decodeDrop(b []byte) (key string, v version.Version, err error) {
	if v, err = version.Decode(b); err == nil {
		key = string(b[version.Size:])
		err = replication.ValidKey(key)
	}
	if err != nil {
		return "", version.Version{}, fmt.Errorf("%w: dropped record: %w", errFormat, err)
	}
	return key, v, nil
}
