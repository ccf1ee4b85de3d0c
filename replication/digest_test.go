package replication_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// TestDigestOfIsTheSameInAllReleases, because nodes of two releases compare their digests.
func TestDigestOfIsTheSameInAllReleases(t *testing.T) {
	v := version.Version{Timestamp: version.Timestamp{Wall: 1, Logical: 2}, Dot: version.Dot{Origin: 3, Counter: 4}}
	// printf '\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\4foo' | sha256sum | cut -c1-16
	if got, want := replication.DigestOf("foo", v), uint64(0x4a1f4af63a10ef34); got != want {
		t.Errorf("got %016x, want %016x", got, want)
	}
}

func TestDigestOfTellsKeysAndVersionsApart(t *testing.T) {
	v := version.Version{Timestamp: version.Timestamp{Wall: 1}, Dot: version.Dot{Origin: 3, Counter: 4}}
	others := map[string]version.Version{"wall": v, "logical": v, "origin": v, "counter": v}
	for name, other := range others {
		switch name {
		case "wall":
			other.Wall++
		case "logical":
			other.Logical++
		case "origin":
			other.Origin++
		case "counter":
			other.Counter++
		}
		if replication.DigestOf("a", other) == replication.DigestOf("a", v) {
			t.Errorf("another %s makes no difference", name)
		}
		// Two keys that swap their versions must not cancel out.
		if replication.DigestOf("a", v)^replication.DigestOf("b", other) == replication.DigestOf("a", other)^replication.DigestOf("b", v) {
			t.Errorf("swapped versions with another %s make no difference", name)
		}
	}
	if replication.DigestOf("a", v) == replication.DigestOf("A", v) {
		t.Error("another key makes no difference")
	}
}

// TestBucketOfIsTheSameInAllReleases, because nodes of two releases compare their buckets.
func TestBucketOfIsTheSameInAllReleases(t *testing.T) {
	// printf foo | sha256sum | cut -c1-3
	for key, want := range map[string]int{"foo": 0x2c2, "Foo": 0x1cb, "a": 0xca9} {
		if got := replication.BucketOf(key); got != want {
			t.Errorf("%s: got %03x, want %03x", key, got, want)
		}
	}
}

func TestBucketOfSpreadsKeysEvenly(t *testing.T) {
	const perBucket = 64
	var sizes [replication.DigestBuckets]int
	for i := range perBucket * replication.DigestBuckets {
		sizes[replication.BucketOf(fmt.Sprint("key", i))]++
	}
	if least, most := slices.Min(sizes[:]), slices.Max(sizes[:]); least < perBucket/3 || most > 2*perBucket {
		t.Errorf("got %d to %d keys in a bucket, want about %d", least, most, perBucket)
	}
}
