package ui

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestHistoryKeepsTheSpanAndNoMore(t *testing.T) {
	var h History
	steps := int64(Span / Step)
	for i := range 3 * steps {
		h.Add(Sample{At: i * int64(Step/time.Second)})
	}
	got := h.Samples()
	if int64(len(got)) != steps || got[0].At != 2*steps*5 || cap(got) > 2*int(steps) {
		t.Errorf("got %d samples from %d on, want %d from %d on", len(got), got[0].At, steps, 2*steps*5)
	}
}

func TestPlotsHaveGapsWhereNothingWasMeasured(t *testing.T) {
	now := time.Unix(10_000, 0)
	samples := []Sample{
		{At: 9000, Reads: 500}, // too long ago
		{At: 9100, Reads: 10, ReadMost: 1},
		{At: 9105, Reads: 20, ReadMost: 2},
		{At: 9110},
		{At: 9115, Reads: 5, ReadMost: 4},
		{At: 9900, Reads: 8, ReadMost: 8},
		{At: 9905, Reads: 7, ReadMost: 8, Failed: 1},
	}
	all := plots(samples, now)
	if got := len(all[0].Lines[0].Points); got != 2 {
		t.Errorf("the rate has %d pieces, want 2: the node was away for a while", got)
	}
	if got := len(all[1].Lines[0].Points); got != 3 {
		t.Errorf("the time that reads take has %d pieces, want 3: once there was none", got)
	}
	if got, want := all[1].Lines[0].Points[0], "0,52.5 1,45 "; got != want {
		t.Errorf("the first piece is %q, want %q", got, want)
	}
	if got, want := all[1].Words, "Time that reads take in the last 15 minutes. 99 of 100: now 8.00 ms, at most 8.00 ms."; !strings.HasPrefix(got, want) {
		t.Errorf("in words: %q, want %q", got, want)
	}
	if empty := plots(nil, now); len(empty) != 3 || empty[0].Lines[0].Points != nil || empty[0].Top != "1.0/s" {
		t.Errorf("of no samples: %+v", empty)
	}
}

func TestNumbersAreShort(t *testing.T) {
	for got, want := range map[string]string{
		thousands(0): "0", thousands(999): "999", thousands(1000): "1,000", thousands(1234567): "1,234,567",
		size(0): "0 B", size(999): "999 B", size(1000): "1.0 kB", size(9_949_999): "9.9 MB", size(45_400_000_000): "45 GB", size(999_600_000): "1.0 GB",
		ms(.123): "0.12 ms", ms(12.34): "12.3 ms", ms(123.4): "123 ms", ms(-1234): "-1.2 s", ms(65_000): "65 s", brief(.04): "0.0 ms", brief(9.94): "9.9 ms", brief(9.95): "10 ms", brief(999.6): "1000 ms", brief(1100): "1.1 s",
		signed(.5): "+0.50 ms", signed(-.5): "−0.50 ms",
		fmt.Sprint(roundUp(0), roundUp(3.2), roundUp(11), roundUp(900)): "1 4 15 1000",
		ago(time.Unix(0, 0), time.Unix(59, 0)):                          "59 s", ago(time.Unix(0, 0), time.Unix(3599, 0)): "59 min",
		ago(time.Unix(0, 0), time.Unix(47*3600, 0)): "47 h", ago(time.Unix(0, 0), time.Unix(48*3600, 0)): "2 d", ago(time.Unix(9, 0), time.Unix(0, 0)): "0 s",
		fmt.Sprint(scarce(11, 100), scarce(9, 100), scarce(0, 0)): "false true false",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestADomainThatAllShareIsLeftOutInTheMatrix(t *testing.T) {
	for names, want := range map[string]string{
		"a.example.org b.example.org": "a b", "a.example.org b.example.com": "a.example.org b.example.com", "a b": "a b", "a.x b": "a.x b",
		"10.0.0.1 10.0.0.1": "10.0.0.1 10.0.0.1", "a.x": "a", "a-9000 b-9001": "a-9000 b-9001",
	} {
		var members []Member
		for name := range strings.FieldsSeq(names) {
			members = append(members, Member{Name: name})
		}
		if got := strings.Join(short(members), " "); got != want {
			t.Errorf("short names of %s: got %s, want %s", names, got, want)
		}
	}
}

func TestEachVerdictHasATitleAnIconAndAClassOfItsOwn(t *testing.T) {
	seen := make(map[string]bool)
	for _, word := range append([]string{"SOMETHING NEW"}, Words...) {
		s := State{Self: "n0", Now: time.Unix(0, 0), Verdict: Verdict{Word: word, Sentence: "It is so.", Problems: []Problem{
			{word, "This is wrong.", "Do that.", "snakes status"},
		}}}
		var b bytes.Buffer
		if err := Page(&b, s, nil, nil); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"<title>" + word + " · snakes on n0</title>", `href="` + Icon(s.Verdict) + `"`, `class="verdict ` + Class(s.Verdict) + `"`, "This is wrong. <b>Do that.</b>", ">snakes status<"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: the page has no %s", word, want)
			}
		}
		for _, own := range []string{Icon(s.Verdict), Class(s.Verdict), string(Assets()[strings.TrimPrefix(Icon(s.Verdict), Root)].Bytes)} {
			if seen[own] || own == "" {
				t.Errorf("%s shares %s", word, own)
			}
			seen[own] = true
		}
		for id, part := range Parts(s) {
			if !strings.Contains(b.String(), part) {
				t.Errorf("%s: the page lacks what its part %s would become", word, id)
			}
		}
	}
}

// brokenWriter takes nothing.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("closed") }

func TestALookUpBeginsWhenAllBeforeItWasSent(t *testing.T) {
	var b bytes.Buffer
	var order []string
	err := Page(&b, State{Now: time.Unix(0, 0)}, func() { order = append(order, fmt.Sprint("flush ", strings.Contains(b.String(), "h-members"))) },
		func() Lookup { order = append(order, "look up"); return Lookup{Key: "foo", Why: "none has it"} })
	if err != nil || fmt.Sprint(order) != "[flush true look up]" || !strings.Contains(b.String(), "none has it.") {
		t.Errorf("got %v, %q", err, order)
	}
	if err := Page(brokenWriter{}, State{}, func() {}, func() Lookup { t.Error("looked up for nobody"); return Lookup{} }); err == nil {
		t.Error("no error for a reader that is gone")
	}
}

func BenchmarkParts(b *testing.B) {
	s := State{Self: "n0", Now: time.Unix(1000, 0), Verdict: Verdict{Word: "OK"}}
	for i := range 3 {
		s.Members = append(s.Members, Member{Name: fmt.Sprint("n", i), State: "alive"})
		s.Views = append(s.Views, View{Name: fmt.Sprint("n", i), Sights: make([]Sight, 3)})
	}
	for i := range int64(180) {
		s.Traffic = append(s.Traffic, Sample{At: 5 * i, Reads: float32(i), ReadMost: float32(i), WriteMost: 1})
	}
	for range 30 {
		s.Events = append(s.Events, Event{What: "member changed state", Facts: map[string]string{"node": "n1", "state": "alive"}})
	}
	b.ReportAllocs()
	for b.Loop() {
		Parts(s)
	}
}
