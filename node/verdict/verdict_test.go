package verdict

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/protocol7/snakes/node/client"
)

var now = time.Date(2026, 11, 22, 12, 4, 12, 0, time.UTC)

// states are the signs of a picture.
var states = map[rune]string{
	'+': "alive", '-': "failed", '.': "stopped", '?': "suspect", '~': "syncing", 'l': "syncing", 'd': "draining", 'j': "joining",
}

// views returns what a picture shows. A line is a node: its name; what it says of the nodes a, b, c, ..., a sign each and
// a blank for one that it does not know, or nothing if it does not answer; and "w" if it takes writes.
func views(picture ...string) (all []client.View) {
	for i, line := range picture {
		name, says, _ := strings.Cut(line, ":")
		id := fmt.Sprintf("%032x", i+1)
		view := client.View{ID: id, Server: "http://" + addressOf(i)}
		if says == "" {
			view.Err = errors.New("connection refused")
			all = append(all, view)
			continue
		}
		signs, writes, _ := strings.Cut(says, "|")
		m := client.Members{Cluster: "snakes", Self: name, SelfID: id, Writable: writes == "w", Protected: true}
		for k, sign := range signs {
			if sign == ' ' {
				continue
			}
			if sign != 'l' && sign != 'j' {
				m.Known++
			}
			if sign == '+' || sign == '?' || sign == 'd' || sign == '~' {
				m.Alive++
			}
			other, _, _ := strings.Cut(picture[k], ":")
			m.Members = append(m.Members, client.Member{
				ID: fmt.Sprintf("%032x", k+1), Name: other, Address: addressOf(k), State: states[sign], Learner: sign == 'l',
				Since: now.Add(-4*time.Minute - 12*time.Second), Version: "1.0.0",
			})
		}
		m.Quorum = m.Known/2 + 1
		view.Members = m
		all = append(all, view)
	}
	return all
}

func addressOf(i int) string { return fmt.Sprintf("10.0.0.%d:9000", i+1) }

// told returns the word and the sentence, and what of each problem with its word.
func told(v Verdict) []string {
	lines := []string{fmt.Sprintf("%s: %s", v.Word, v.Sentence)}
	for _, p := range v.Problems {
		lines = append(lines, fmt.Sprintf("%s: %s", p.Word, p.What))
	}
	return lines
}

const since = "2026-11-22T12:00:00Z (4m12s)"

func TestVerdictOfPictures(t *testing.T) {
	for _, row := range []struct {
		name    string
		picture []string
		want    []string
	}{
		{"three are well", []string{"a:+++|w", "b:+++|w", "c:+++|w"}, []string{
			"OK: All 3 members are alive and take reads and writes. Writes go on if 1 of them fails.",
		}},
		{"five are well", []string{"a:+++++|w", "b:+++++|w", "c:+++++|w", "d:+++++|w", "e:+++++|w"}, []string{
			"OK: All 5 members are alive and take reads and writes. Writes go on if 2 of them fail.",
		}},
		{"two are well", []string{"a:++|w", "b:++|w"}, []string{
			"OK: Both members are alive and take reads and writes. The loss of one more would end writes.",
		}},
		{"alone", []string{"a:+|w"}, []string{"OK: The only member is alive and takes reads and writes. There is no other copy."}},
		{"one is dead", []string{"a:++-|w", "b:++-|w", "c"}, []string{
			"DEGRADED: c is failed since " + since + ". Reads and writes go on. The loss of one more would end writes.",
			"DEGRADED: c is failed since " + since + ".",
		}},
		{"one has noticed first", []string{"a:++-|w", "b:+++|w", "c"}, []string{
			"DEGRADED: c is failed since " + since + ". Reads and writes go on. The loss of one more would end writes.",
			"DEGRADED: c is failed since " + since + ".",
		}},
		{"one of five is dead", []string{"a:++++-|w", "b:++++-|w", "c:++++-|w", "d:++++-|w", "e"}, []string{
			"DEGRADED: e is failed since " + since + ". Reads and writes go on. Writes go on if 1 more fails.",
			"DEGRADED: e is failed since " + since + ".",
		}},
		{"one was stopped, one hangs", []string{"a:++.?+|w", "b:++.?+|w", "c", "d", "e:++.?+|w"}, []string{
			"DEGRADED: c is stopped since " + since + " (and 1 other problem). Reads and writes go on. Writes go on if 1 more fails.",
			"DEGRADED: c is stopped since " + since + ".",
			"DEGRADED: d does not answer the others since " + since + ", but is not given up yet.",
		}},
		{"two of three are dead", []string{"a:+--|", "b", "c"}, []string{
			"NO WRITES: No write passes: 1 of 3 members is alive, and a write needs 2.",
			"NO WRITES: No write passes: 1 of 3 members is alive, and a write needs 2.",
			"DEGRADED: b is failed since " + since + ".",
			"DEGRADED: c is failed since " + since + ".",
		}},
		{"one is cut off", []string{"a:++-|w", "b:++-|w", "c:--+|"}, []string{
			"SPLIT: The members do not all reach each other: a and b | c. Writes go on at a and b only.",
			"SPLIT: Nodes run that hold each other for missing: a and b | c.",
		}},
		{"the cut is new", []string{"a:++?|w", "b:++?|w", "c:??+|"}, []string{
			"SPLIT: The members do not all reach each other: a and b | c. Writes go on at a and b only.",
			"SPLIT: Nodes run that hold each other for missing: a and b | c.",
		}},
		{"nobody has a majority", []string{"a:++--|", "b:++--|", "c:--++|", "d:--++|"}, []string{
			"NO WRITES: No node takes writes: the members do not all reach each other: a and b | c and d.",
			"NO WRITES: No write passes: 2 of 4 members are alive, and a write needs 3.",
			"SPLIT: Nodes run that hold each other for missing: a and b | c and d.",
		}},
		{"each has forgotten the other", []string{"a:+ |w", "b: +|w"}, []string{
			"SPLIT: The members do not all reach each other: a | b. Writes go on at a and b only.",
			"SPLIT: Nodes run that hold each other for missing: a | b.",
			"DEGRADED: Nodes do not agree on who the members are: a knows 1, b knows 1.",
		}},
		{"two reach each other by the third alone", []string{"a:++-|w", "b:+++|w", "c:-++|w"}, []string{
			"DEGRADED: a runs, but c does not reach it (and 1 other problem). Reads and writes go on. The loss of one more would end writes.",
			"DEGRADED: a runs, but c does not reach it.",
			"DEGRADED: c runs, but a does not reach it.",
		}},
		{"one direction is cut", []string{"a:+++|w", "b:+++|w", "c:+?+|w"}, []string{
			"DEGRADED: b runs, but c does not reach it. Reads and writes go on. Writes go on if 1 of them fails.",
			"DEGRADED: b runs, but c does not reach it.",
		}},
		{"one has just been started again", []string{"a:++-|w", "b:++-|w", "c:--~|"}, []string{
			"OK: All 3 members are alive and take reads and writes. The loss of one more would end writes.",
		}},
		{"one cannot be asked from here", []string{"a:+++|w", "b:+++|w", "c"}, []string{
			"OK: All 3 members are alive and take reads and writes. Writes go on if 1 of them fails.",
			"OK: c is alive, as others say, but gives no answer here: connection refused.",
		}},
		{"one is on its way in", []string{"a:++l|w", "b:++l|w", "c"}, []string{
			"OK: Both members are alive and take reads and writes. The loss of one more would end writes.",
			"OK: c fetches what it missed.",
		}},
		{"one catches up", []string{"a:++~|w", "b:++~|w", "c"}, []string{
			"DEGRADED: c fetches what it missed. Reads and writes go on. Writes go on if 1 of them fails.",
			"DEGRADED: c fetches what it missed.",
		}},
		{"one drains", []string{"a:++d|w", "b:++d|w", "c"}, []string{
			"DEGRADED: c is draining since " + since + ": others are to be chosen. Reads and writes go on. Writes go on if 1 of them fails.",
			"DEGRADED: c is draining since " + since + ": others are to be chosen.",
		}},
		{"the roster is news to one", []string{"a:+++|w", "b:+++|w", "c: ++|w"}, []string{
			"DEGRADED: Nodes do not agree on who the members are: a and b know 3, c knows 2. Reads and writes go on. The loss of one more would end writes.",
			"DEGRADED: Nodes do not agree on who the members are: a and b know 3, c knows 2.",
		}},
		{"nobody answers", []string{"a", "b"}, []string{
			"NO WRITES: No node answers.",
			"NO WRITES: http://10.0.0.1:9000 gives no answer: connection refused.",
			"NO WRITES: http://10.0.0.2:9000 gives no answer: connection refused.",
		}},
	} {
		all := views(row.picture...)
		got := Of(all, now)
		if diff := cmp.Diff(row.want, told(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
		checkInvariants(t, row.name, got)
		if got.Sentence == "No node answers." {
			continue // its problems are in the order of the servers
		}
		slices.Reverse(all)
		if diff := cmp.Diff(told(got), told(Of(all, now))); diff != "" {
			t.Errorf("%s, asked in another order (-one +other):\n%s", row.name, diff)
		}
	}
}

func checkInvariants(t *testing.T, name string, v Verdict) {
	t.Helper()
	worst := OK
	for _, p := range v.Problems {
		if worse(p.Word, worst) > 0 {
			worst = p.Word
		}
		if p.What == "" || p.Do == "" || p.Command == "" {
			t.Errorf("%s: got %+v, want all said", name, p)
		}
	}
	if v.Word != worst || v.Sentence == "" {
		t.Errorf("%s: got %s with problems up to %s and sentence %q", name, v.Word, worst, v.Sentence)
	}
}

// What a node says of itself and of its disk.
func TestVerdictTellsWhatANodeHasWithItself(t *testing.T) {
	for _, row := range []struct {
		name    string
		ails    func(m *client.Members)
		word    Word
		what    string
		command string
	}{
		{"clock", func(m *client.Members) {
			m.Unready = []client.Unready{{Check: "clock", Why: "this clock is 2s ahead"}}
		}, Degraded, "b: this clock is 2s ahead.", "timedatectl status"},
		{"latched", func(m *client.Members) {
			m.Disk.Latched = true
			m.Unready = []client.Unready{{Check: "disk writable", Why: "The disk failed."}, {Check: "default write level reachable", Why: "The disk failed."}}
		}, Degraded, "b: The disk failed.", "dmesg | tail -n 30"},
		{"full", func(m *client.Members) {
			m.Disk.Full = true
			m.Unready = []client.Unready{{Check: "disk writable", Why: "No room."}}
		}, Degraded, "b: No room.", "df -h"},
		{"nearly full", func(m *client.Members) { m.Disk.Size, m.Disk.Free = 1000, 49 }, OK, "b has 4% of its disk left.", "df -h"},
		{"damaged", func(m *client.Members) { m.Disk.Damaged = 2 }, Degraded, "b cannot read 2 records of its own.", "snakes events --server http://10.0.0.2:9000"},
		{"exposed", func(m *client.Members) { m.Exposed = true }, Insecure, "Anybody who reaches b can read and write everything.", "snakes secret snakes.secret"},
		{"catching up", func(m *client.Members) {
			m.Members[1].State, m.Members[1].Progress = "syncing", &client.Progress{Pulled: 3, Offered: 9}
			m.Unready = []client.Unready{{Check: "synced", Why: "this node catches up with the others, and has fetched 3 of 9 keys"}}
		}, Degraded, "b fetches what it missed, and has 3 of 9 keys.", "snakes status --wait ready --timeout 10m --server http://10.0.0.2:9000"},
		{"a learner", func(m *client.Members) {
			m.Members[1].State, m.Members[1].Learner = "syncing", true
			m.Unready = []client.Unready{{Check: "synced", Why: "it catches up"}}
		}, OK, "b: it catches up.", "snakes status --wait ready --timeout 10m --server http://10.0.0.2:9000"},
		{"joining", func(m *client.Members) {
			m.Members = m.Members[1:2]
			m.Members[0].State = "joining"
			m.Unready = []client.Unready{{Check: "joined", Why: "nobody was reached"}, {Check: "synced", Why: "it catches up"}, {Check: "default write level reachable", Why: "not joined"}}
		}, Degraded, "b: nobody was reached.", "snakes events --server http://10.0.0.2:9000"},
		{"draining", func(m *client.Members) {
			m.Members[1].State = "draining"
			m.Unready = []client.Unready{{Check: "staying", Why: "it is to stop"}}
		}, Degraded, "b is draining since " + since + ": others are to be chosen.", "snakes undrain --server http://10.0.0.2:9000"},
		{"what is not known here", func(m *client.Members) {
			m.Unready = []client.Unready{{Check: "mood", Why: "bad"}}
		}, Degraded, "b: bad.", "snakes events --server http://10.0.0.2:9000"},
		{"another release", func(m *client.Members) { m.Members[1].Version = "1.1.0" }, OK, "Members run several releases: a and c 1.0.0, b 1.1.0.", "snakes members --server http://10.0.0.1:9000"},
	} {
		all := views("a:+++|w", "b:+++|w", "c:+++|w")
		row.ails(&all[1].Members)
		got := Of(all, now)
		checkInvariants(t, row.name, got)
		if got.Word != row.word || len(got.Problems) != 1 || got.Problems[0].What != row.what || got.Problems[0].Command != row.command {
			t.Errorf("%s: got %+v\nwant %s with one problem, %q and %q", row.name, got, row.word, row.what, row.command)
		}
	}
}

func TestVerdictNamesWhyASingleNodeTakesNoWrites(t *testing.T) {
	all := views("a:+|")
	all[0].Members.Disk.Latched = true
	all[0].Members.Unready = []client.Unready{{Check: "disk writable", Why: "The disk failed."}, {Check: "default write level reachable", Why: "x"}}
	got := Of(all, now)
	if want := "No write passes: a says: The disk failed."; got.Word != NoWrites || got.Sentence != want {
		t.Errorf("got %s: %s, want %s: %s", got.Word, got.Sentence, NoWrites, want)
	}
}

func TestVerdictForgetsByIDWhereNamesAreEqual(t *testing.T) {
	all := views("a:++-|w", "b:++-|w", "c")
	all[0].Members.Members[2].Name, all[1].Members.Members[2].Name = "b", "b"
	all[1].Members.Members[2].Blocks = 7
	got := Of(all, now).Problems
	if len(got) != 1 || got[0].Command != "snakes forget 00000000000000000000000000000003 --server http://10.0.0.1:9000" {
		t.Errorf("got %+v, want b to be forgotten by its id", got)
	}
	if len(got) == 1 && !strings.Contains(got[0].What, "the marks of 7 deletes are kept for it") {
		t.Errorf("got %q, want that it is waited for", got[0].What)
	}
}

func TestCommandsGoByTLSWhereTheNodesDo(t *testing.T) {
	all := views("a:++d|w", "b:++d|w", "c")
	for i := range all {
		all[i].Members.TLS = true
	}
	got := Of(all, now).Problems
	if want := "snakes undrain --server https://10.0.0.3:9000"; len(got) != 1 || got[0].Command != want {
		t.Errorf("got %+v, want %q", got, want)
	}
}

func TestCommandsCanBePasted(t *testing.T) {
	if got, want := snakes("undrain", "http://[::1]:9000"), "snakes undrain --server 'http://[::1]:9000'"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAgoHasTwoUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 252 * time.Second: "4m12s", 3*time.Hour + 5*time.Minute: "3h5m", 50 * time.Hour: "2d2h",
	} {
		if got := Ago(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
