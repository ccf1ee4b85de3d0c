package readme

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseFindsCommandsAndWhatTheyPrint(t *testing.T) {
	const text = "# Title\n" +
		"```go\n$ not a command\n```\n" +
		"```console\n$ echo a \\\n>   b\na   b\n\n$ false # exit 1\n$ sleep 5 &\n```\n" +
		"<!-- readme: background -->\n\n```console\n$ snakes\nlistening on ...\n```\n" +
		"````console\n$ echo '```'\n```\n````\n" +
		"<!-- readme: skip -->\n```console\n$ rm -rf x\n```\n"
	got, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Block{
		{Line: 5, Commands: []Command{
			{Line: 6, Text: "echo a \\\n  b", Output: []string{"a   b"}},
			{Line: 10, Text: "false", Exit: 1},
			{Line: 11, Text: "sleep 5", Background: true},
		}},
		{Line: 15, Mode: Background, Commands: []Command{{Line: 16, Text: "snakes", Background: true, Output: []string{"listening on ..."}}}},
		{Line: 19, Commands: []Command{{Line: 20, Text: "echo '```'", Output: []string{"```"}}}},
		{Line: 24, Mode: Skip, Commands: []Command{{Line: 25, Text: "rm -rf x"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parsed otherwise than wanted (-want +got):\n%s", diff)
	}
}

func TestParseRefusesSlipsOfThePen(t *testing.T) {
	for text, want := range map[string]string{
		"```console\n$ true\n":                                   "line 1: the block has no end",
		"```console\ntrue\n```\n":                                `line 2: "true" stands before the first command`,
		"```console\n```\n":                                      "line 1: a console block without a command",
		"<!-- readme: skp -->\n":                                 "line 1: <!-- readme: skp -->: unknown",
		"<!-- readme: skip -->\n```go\n```\n":                    "line 1: the comment stands before a block that is not console",
		"<!-- readme: skip -->\n<!-- readme: fresh -->\n":        "line 2: <!-- readme: fresh -->: unknown, or a second one",
		"```console\n$ true\n```\n<!-- readme: eventually -->\n": "line 4: no block follows the comment",
		"```console\n$ true # exit 300\n```\n":                   "line 2: exit code 300",
	} {
		if _, err := Parse(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q", text, err, want)
		}
	}
}

func TestDotsStandForTextAndForLines(t *testing.T) {
	rows := []struct {
		printed, shown string
		want           bool
	}{
		{"", "", true},
		{"\n\n", "", true},
		{"x", "", false},
		{"", "x", false},
		{"some value", "some value", true},
		{"some value\r\n", "some value", true},
		{"some value", "Some value", false},
		{"a.c", "a.c", true},
		{"abc", "a.c", false},
		{"node 5f0c at 9000 up", "node ... at 9000 up", true},
		{"node 5f0c at 9001 up", "node ... at 9000 up", false},
		{"{\"a\":1}", "{...}", true},
		{"a\nb\nc", "a\n...\nc", true},
		{"a\nc", "a\n...\nc", true},
		{"a\nb\nd", "a\n...\nc", false},
		{"a\nb", "...\nb", true},
		{"b", "...\nb", true},
		{"b\na", "...\nb", false},
		{"a\nb", "a\n...", true},
		{"a", "a\n...", true},
		{"a\nb\nc", "...", true},
		{"a\nb", "a...b", false}, // dots within a line stay there
	}
	for _, row := range rows {
		var shown []string
		if row.shown != "" {
			shown = strings.Split(row.shown, "\n")
		}
		if got := matches(row.printed, shown); got != row.want {
			t.Errorf("printed %q, shown %q: got %t, want %t", row.printed, row.shown, got, row.want)
		}
	}
	if !contains("a\nb\nc\n", []string{"b"}) || contains("a\nbb\nc\n", []string{"b"}) {
		t.Error("contains does not look for whole lines")
	}
}
