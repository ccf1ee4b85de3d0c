package faults

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/protocol7/snakes/replication/version"
)

func at(wall int64) version.Version {
	return version.Version{Timestamp: version.Timestamp{Wall: wall}, Dot: version.Dot{Origin: 1, Counter: uint64(wall)}}
}

// op is an operation of a key with default levels from one second to another.
func op(k kind, value uint64, v int64, from, to int, came outcome) operation {
	o := operation{
		Kind: k, Key: "r1d0", Setting: "d", Value: value, Start: time.Duration(from) * time.Second, End: time.Duration(to) * time.Second,
		Outcome: came,
	}
	if v != 0 {
		o.Version = at(v)
	}
	return o
}

// in changes the setting of operations, and with it their key.
func in(letter string, past ...operation) []operation {
	for i := range past {
		past[i].Setting, past[i].Key = letter, "r1"+letter+"0"
	}
	return past
}

func TestCheckerFindsWhatMustNotBe(t *testing.T) {
	alone := circumstances{outvoted: map[int]period{0: {2 * time.Second, 9 * time.Second}}}
	final := func(key string, value uint64, v int64) circumstances {
		return circumstances{final: map[string]found{key: {Version: at(v), Value: value}}}
	}
	for _, c := range []struct {
		name string
		past []operation
		c    circumstances
		want string // part of what is wrong; empty: nothing is
	}{
		{"read of what was acknowledged", []operation{op(put, 1, 1, 0, 1, done), op(get, 1, 1, 2, 3, done)}, circumstances{}, ""},
		{"read of what is being written", []operation{op(put, 1, 1, 0, 5, done), op(get, 1, 1, 2, 3, done)}, circumstances{}, ""},
		{"read of what may have been written", []operation{op(put, 1, 0, 0, 1, unknown), op(get, 1, 1, 2, 3, done)}, circumstances{}, ""},
		{"nothing, where nobody knows whether a delete was done", []operation{op(put, 1, 1, 0, 1, done), op(remove, 0, 0, 1, 2, unknown), op(get, 0, 0, 3, 4, absent)}, circumstances{}, ""},
		{"lost write", []operation{op(put, 1, 1, 0, 1, done), op(get, 0, 0, 2, 3, absent)}, circumstances{}, "found nothing after"},
		{"stale read", []operation{op(put, 1, 1, 0, 1, done), op(put, 2, 2, 1, 2, done), op(get, 1, 1, 3, 4, done)}, circumstances{}, "older than"},
		{"stale read of another writer's", []operation{op(put, 1, 1, 0, 1, done), op(put, 2, 2, 1, 9, done), op(get, 2, 2, 3, 4, done), op(get, 1, 1, 5, 6, done)}, circumstances{}, "older than"},
		{"reads at the same time may differ", []operation{op(put, 1, 1, 0, 1, done), op(put, 2, 2, 1, 9, done), op(get, 2, 2, 3, 6, done), op(get, 1, 1, 4, 5, done)}, circumstances{}, ""},
		{"back from the dead", []operation{op(put, 1, 1, 0, 1, done), op(remove, 0, 2, 1, 2, done), op(get, 1, 1, 3, 4, done)}, circumstances{}, "older than"},
		{"seen, gone, seen again", []operation{op(put, 1, 1, 0, 1, done), op(remove, 0, 0, 1, 2, unknown), op(get, 0, 0, 3, 4, absent), op(get, 1, 1, 5, 6, done)}, circumstances{}, "gone already"},
		{"refused and seen", []operation{op(put, 1, 0, 0, 1, refused), op(get, 1, 1, 2, 3, done)}, circumstances{}, "refused"},
		{"never put", []operation{op(get, 7, 1, 2, 3, done)}, circumstances{}, "nobody had put"},
		{"read before it was put", []operation{op(get, 1, 1, 0, 1, done), op(put, 1, 1, 2, 3, done)}, circumstances{}, "nobody had put"},
		{"two values of one version", []operation{op(put, 1, 1, 0, 1, done), op(put, 2, 1, 0, 1, done)}, circumstances{}, "version of another value"},
		{"two versions of one value", []operation{op(put, 1, 2, 0, 9, done), op(get, 1, 1, 2, 3, done), op(get, 1, 2, 4, 5, done)}, circumstances{}, ""},
		{"three versions of one value", []operation{op(put, 1, 3, 0, 9, done), op(get, 1, 1, 2, 3, done), op(get, 1, 2, 4, 5, done)}, circumstances{}, "3 versions"},
		{"answered without a majority", []operation{op(put, 1, 1, 3, 4, done)}, alone, "cut off"},
		{"answered before the cut", []operation{op(put, 1, 1, 1, 3, done)}, alone, ""},
		{"one node is enough for w=1", in("o", op(put, 1, 1, 3, 4, done)), alone, ""},
		{"node that goes back", in("o", op(put, 1, 1, 0, 1, done), op(put, 2, 2, 0, 1, done), op(get, 2, 2, 2, 3, done), op(get, 1, 1, 4, 5, done)), circumstances{}, "went back"},
		{"node that goes back after it was hit", in("o", op(put, 1, 1, 0, 1, done), op(put, 2, 2, 0, 1, done), op(get, 2, 2, 2, 3, done), op(get, 1, 1, 4, 5, done)), circumstances{victims: []int{0}}, ""},
		{"r=1 after w=all", in("a", op(put, 1, 1, 0, 1, done), op(get, 0, 0, 2, 3, absent)), circumstances{}, "found nothing after"},
		{"r=1 after w=1", in("o", op(put, 1, 1, 0, 1, done), op(get, 0, 0, 2, 3, absent)), circumstances{}, ""},
		{"lost in the end", []operation{op(put, 1, 1, 0, 1, done)}, circumstances{final: map[string]found{}}, "in the end there is nothing"},
		{"lost with its disk", in("o", op(put, 1, 1, 0, 1, done)), circumstances{final: map[string]found{}, diskLost: true}, ""},
		{"w=1 lost with no disk", in("o", op(put, 1, 1, 0, 1, done)), circumstances{final: map[string]found{}}, "in the end there is nothing"},
		{"overwritten by something older", []operation{op(put, 1, 1, 0, 9, done), op(put, 2, 2, 0, 9, done)}, final("r1d0", 1, 1), "older than"},
		{"deleted and there in the end", []operation{op(put, 1, 1, 0, 1, done), op(remove, 0, 2, 1, 2, done)}, final("r1d0", 1, 1), "older than"},
		{"refused and there in the end", []operation{op(put, 1, 0, 0, 1, refused)}, final("r1d0", 1, 1), "refused"},
		{"all well in the end", []operation{op(put, 1, 1, 0, 1, done), op(put, 2, 2, 1, 2, done)}, final("r1d0", 2, 2), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(check(c.past, c.c), "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestCounterExampleIsSmall(t *testing.T) {
	past := []operation{
		op(put, 1, 1, 0, 1, done), op(get, 1, 1, 2, 3, done), op(put, 2, 2, 4, 5, done), op(put, 3, 3, 6, 7, done),
		op(get, 2, 2, 8, 9, done), op(put, 4, 4, 10, 11, done), op(get, 4, 4, 12, 13, done), op(put, 5, 0, 12, 13, unknown),
	}
	if got := linearizable(past, time.Minute); got != porcupine.Illegal {
		t.Fatalf("a stale read is %v, want %v", got, porcupine.Illegal)
	}
	example := counterExample(past)
	if got := strings.Count(example, "\n"); got != 3 {
		t.Errorf("the example has %d operations, want the two writes and the read:\n%s", got, example)
	}
	if got := linearizable(append(past[:4:4], past[5:]...), time.Minute); got != porcupine.Ok {
		t.Errorf("without the stale read it is %v, want %v", got, porcupine.Ok)
	}
}

func TestWriteUnderTwoVersionsCountsAsTwo(t *testing.T) {
	past := []operation{
		op(put, 1, 3, 0, 9, done), op(put, 2, 2, 0, 9, done),
		op(get, 1, 1, 1, 2, done), op(get, 2, 2, 3, 4, done), op(get, 1, 3, 10, 11, done),
	}
	if got := orderOf(past, "d", time.Minute); len(got.wrong) != 0 || len(got.twice) != 1 {
		t.Errorf("got %+v, want one key with a write that showed twice", got)
	}
	gone := []operation{
		op(put, 1, 1, 0, 1, done), op(remove, 0, 4, 2, 9, done), op(get, 0, 0, 3, 4, absent),
		op(put, 2, 3, 3, 9, done), op(get, 2, 3, 5, 6, done), op(get, 0, 0, 10, 11, absent),
	}
	if got := orderOf(gone, "d", time.Minute); len(got.wrong) != 0 || len(got.twice) != 1 {
		t.Errorf("got %+v, want one key with a delete that showed twice", got)
	}
	past = append(past, op(get, 2, 2, 12, 13, done))
	if got := orderOf(past, "d", time.Minute); len(got.wrong) != 1 || len(got.twice) != 0 {
		t.Errorf("with a stale read as well: got %+v, want one key that is wrong", got)
	}
}

func TestValueIsKnownByItsBytes(t *testing.T) {
	value := valueOf("r1d0", 7, sizeOf("r1d0", 7))
	if number, err := numberOf("r1d0", value); number != 7 || err != nil {
		t.Errorf("the value of 7 is %d, %v", number, err)
	}
	for name, torn := range map[string]string{
		"short": value[:len(value)-1], "long": value + "0", "empty": "", "zeros": strings.Repeat("\x00", len(value)),
		"flipped": value[:20] + string(value[20]^1) + value[21:],
		"of two":  value[:30] + valueOf("r1d0", 8, 2*len(value))[30:len(value)],
	} {
		if number, err := numberOf("r1d0", torn); err == nil {
			t.Errorf("a value that is %s passes for that of %d", name, number)
		}
	}
}

func TestResultsAddUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "RESULTS.md")
	if err := os.WriteFile(path, []byte("# Title\n\n"+resultsHead+"\n"+resultsRule+"\n\nNotes.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	row := func(commit string, first uint64) result {
		r := result{commit: commit, fault: "kill -9 of one", seeds: [][2]uint64{{first, first + 1}}}
		r.add(report{operations: 100, window: 10 * time.Millisecond, recovery: time.Second})
		r.add(report{operations: 50, window: 30 * time.Millisecond, recovery: 3 * time.Second, wrong: []string{"x"}, failed: 2, undecided: 1, twice: []string{"y"}})
		return r
	}
	for _, r := range []result{row("abc", 1), row("abc", 10), row("def", 20)} {
		if err := recordResults(path, []result{r}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	want := "# Title\n\n" + resultsHead + "\n" + resultsRule + `
| kill -9 of one | abc | 1-2, 10-11 | 4 | 300 | 2 | 2 | 2 | 4 | 20 / 30 | 2000 / 3000 |
| kill -9 of one | def | 20-21 | 2 | 150 | 1 | 1 | 1 | 2 | 20 / 30 | 2000 / 3000 |
| **all** | | | 6 | 450 | 3 | 3 | 3 | 6 | | |

Notes.
`
	if err != nil || string(got) != want {
		t.Errorf("%v, the file is\n%s\nwant\n%s", err, got, want)
	}
}
