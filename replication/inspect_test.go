package replication_test

import (
	"fmt"
	"hash/crc32"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

func TestInspectTellsWhatEveryMemberHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abcdefg", setup{})
		a := cl["a"]
		a.members.rosters("abcdef") // g is a learner, and asked too
		a.members.live("b", false)  // it is asked all the same
		cl.put(t, "a", record("foo", "old", at(-99)))
		cl.put(t, "b", record("foo", "new", at(-9)))
		cl.put(t, "d", tombstone("foo", at(-50)))
		cl["e"].store.Damage("foo")
		cl.spoil("f", freezes)
		cl.put(t, "g", record("foo", "new", at(-9)))
		start := time.Now()
		in, err := a.Inspect(t.Context(), "foo")
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != replication.DefaultSilence {
			t.Errorf("took %v, want as long as the silent one may, %v", got, replication.DefaultSilence)
		}
		sum := crc32.Checksum([]byte("new"), crc32.MakeTable(crc32.Castagnoli))
		want := []string{
			fmt.Sprintf("node-a present %v 3 true", at(-99)),
			fmt.Sprintf("node-b present %v 3 true", at(-9)),
			"node-c absent 0.0.0.0 0 true",
			fmt.Sprintf("node-d deleted %v 0 true", at(-50)),
			"node-e damaged 0.0.0.0 0 false",
			"node-f unreachable 0.0.0.0 0 false",
			fmt.Sprintf("node-g present %v 3 true", at(-9)),
		}
		for i, c := range in.Copies {
			if got := fmt.Sprintf("%s %s %v %d %v", c.Name, c.State, c.Version, c.Size, c.Err == nil); got != want[i] {
				t.Errorf("got  %s\nwant %s", got, want[i])
			}
		}
		if in.Copies[1].Checksum != sum || in.Winner != at(-9) || in.Key != "foo" {
			t.Errorf("got key %s, winner %v with checksum %x, want foo, %v, %x", in.Key, in.Winner, in.Copies[1].Checksum, at(-9), sum)
		}
		if want := "2 of 7 members hold it; its timestamp is the highest; what 2 of them hold is unknown and may be newer"; in.Why != want {
			t.Errorf("why: got  %s\nwant %s", in.Why, want)
		}
		cl.wantHeld(t, "foo", "old", "a") // nothing was repaired
	})
}

func TestInspectSaysWhyTheWinnerWins(t *testing.T) {
	later := func(v version.Version, wall int64, origin, counter uint64) version.Version {
		v.Wall += wall
		v.Origin += origin
		v.Counter += counter
		return v
	}
	low := at(-9)
	for want, records := range map[string][]replication.Record{
		"2 of 2 members answered and none has a record of the key": nil,
		"1 of 2 members hold it; no other version was found":       {record("foo", "", low)},
		"2 of 2 members hold it; no other version was found":       {record("foo", "", low), record("foo", "", low)},
		"1 of 2 members hold it; its timestamp is the highest":     {record("foo", "", low), record("foo", "", later(low, 1, 0, 0))},
		"1 of 2 members hold it; its timestamp is that of another version, and its origin is the higher one": {
			record("foo", "", later(low, 0, 1, 0)), record("foo", "", later(low, 0, 0, 7)),
		},
		"1 of 2 members hold it; its timestamp and origin are those of another version, and its counter is the higher one": {
			record("foo", "", low), record("foo", "", later(low, 0, 0, 1)),
		},
		"1 of 2 members hold it; its timestamp is the highest; it is a deletion, so the key has no value": {
			record("foo", "", low), tombstone("foo", later(low, 1, 0, 0)),
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			cl := newCluster(t, "ab", setup{})
			for i, r := range records {
				cl.put(t, string(rune('a'+i)), r)
			}
			if in, err := cl["b"].Inspect(t.Context(), "foo"); err != nil || in.Why != want {
				t.Errorf("got  %s, %v\nwant %s", in.Why, err, want)
			}
		})
	}
}
