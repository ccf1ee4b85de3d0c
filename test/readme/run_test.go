package readme

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runText runs a markdown text with tight limits.
func runText(t *testing.T, text string, change func(*Options)) error {
	t.Helper()
	blocks, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: t.TempDir(), Patience: 3 * time.Second, Timeout: 10 * time.Second}
	if change != nil {
		change(&o)
	}
	err = Run(t.Context(), blocks, o)
	if errors.Is(err, ErrNoShell) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	return err
}

func console(lines ...string) string {
	return "```console\n" + strings.Join(lines, "\n") + "\n```\n"
}

func TestRunAcceptsTextThatIsTrue(t *testing.T) {
	stories := map[string]string{
		"output":                  console("$ echo a; echo b >&2", "a", "b", "$ printf 'no newline'", "no newline"),
		"exit code":               console("$ (exit 3) # exit 3", "$ false || true"),
		"one shell":               console("$ mkdir d && cd d && X='it'\\''s'") + console("$ basename $PWD; echo $X", "d", "it's"),
		"continued line":          console("$ echo a \\", ">   b", "a b"),
		"no input":                console("$ cat", "$ echo still here", "still here"),
		"skipped":                 "<!-- readme: skip -->\n" + console("$ false"),
		"jobs":                    console("$ sleep 100 &", "$ sleep 101 &", "$ kill -9 %2", "$ kill %1", "$ echo quiet", "quiet"),
		"background output":       console("$ sh -c 'sleep 0.1; echo up; sleep 100' &", "up"),
		"terminals of their own":  "<!-- readme: background -->\n" + console("$ sleep 100", "$ sleep 101") + console("$ jobs -p | wc -l", "...2"),
		"eventually":              console("$ sh -c 'sleep 0.3; touch done' &") + "<!-- readme: eventually -->\n" + console("$ ls", "done"),
		"fresh ends and empties":  console("$ touch f", "$ sleep 100 &") + "<!-- readme: fresh -->\n" + console("$ ls; jobs"),
		"environment of its own":  console("$ echo \"$SNAKES_PORT\""),
		"killed job is no output": console("$ sleep 100 &", "$ kill -9 $!; sleep 0.1", "$ sleep 0.1"),
	}
	t.Setenv("SNAKES_PORT", "1")
	for name, text := range stories {
		t.Run(name, func(t *testing.T) {
			if err := runText(t, text, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRunRefusesTextThatIsNotTrue(t *testing.T) {
	for name, text := range map[string]string{
		"other output":      console("$ echo a", "b"),
		"output not shown":  console("$ echo a"),
		"no output":         console("$ true", "a"),
		"exit code":         console("$ false"),
		"good exit":         console("$ true # exit 1"),
		"never":             "<!-- readme: eventually -->\n" + console("$ echo a", "b"),
		"background output": console("$ echo a &", "b"),
	} {
		t.Run(name, func(t *testing.T) {
			err := runText(t, text, func(o *Options) { o.Patience = 200 * time.Millisecond })
			if mismatch := (*Mismatch)(nil); !errors.As(err, &mismatch) || mismatch.Command.Line == 0 {
				t.Errorf("got error %v, want a Mismatch with its line", err)
			}
		})
	}
}

func TestRunEndsCommandsThatHangOrEndTheShell(t *testing.T) {
	err := runText(t, console("$ echo first; sleep 100"), func(o *Options) { o.Timeout = 200 * time.Millisecond })
	if err == nil || !strings.Contains(err.Error(), "has not ended after") || !strings.Contains(err.Error(), "first") {
		t.Errorf("a command that hangs: got error %v, want its output and that it has not ended", err)
	}
	err = runText(t, console("$ exit 0"), nil)
	if err == nil || !strings.Contains(err.Error(), "ended the shell") {
		t.Errorf("a command that exits: got error %v, want that it ended the shell", err)
	}
}

func TestRunWaitsForBackgroundCommandsAndShowsTheirLogs(t *testing.T) {
	var asked string
	err := runText(t, console("$ echo some trouble &"), func(o *Options) {
		o.Answers = func(_ context.Context, command string) error {
			asked = command
			time.Sleep(100 * time.Millisecond) // lets the command print
			return errors.New("no answer")
		}
	})
	if asked != "echo some trouble" {
		t.Errorf("asked whether %q answers, want the command shown", asked)
	}
	if err == nil || !strings.Contains(err.Error(), "no answer") || !strings.Contains(err.Error(), "\nsome trouble") {
		t.Errorf("got error %v, want the reason and the log", err)
	}
}

func TestRunUsesPathAndRewrites(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "snakes"), []byte("#!/bin/sh\necho snakes \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := runText(t, console("$ go run ./cmd/snakes get foo", "snakes get foo"), func(o *Options) {
		o.Path = bin
		o.Rewrite = func(c string) string { return strings.ReplaceAll(c, "go run ./cmd/snakes", "snakes") }
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNothingOutlivesRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	for name, last := range map[string]string{"well": "$ true", "badly": "$ false", "by a hanging command": "$ sleep 100"} {
		err := runText(t, console("$ sleep 1000 &", "$ echo $! >"+file, last), func(o *Options) { o.Timeout = 500 * time.Millisecond })
		if (err == nil) != (name == "well") {
			t.Errorf("%s: got error %v", name, err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(5 * time.Second)
		for running(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("ended %s: process %d runs on", name, pid)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// running says whether a process runs; a zombie that nobody has fetched does not.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}

// The kernel closes the shell's input when the process that runs it dies, whatever way.
func TestJobsEndWhenTheShellsInputIsClosed(t *testing.T) {
	dir := t.TempDir()
	s, err := startShell(dir, dir, "")
	if errors.Is(err, ErrNoShell) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.background("sleep 1000", filepath.Join(dir, "log"), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	out, _, err := s.run("echo $!", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || !running(pid) {
		t.Fatalf("%q is not the id of a running process: %v", out, err)
	}
	if err := s.input.Close(); err != nil {
		t.Fatal(err)
	}
	// The exit code is that of the shell's last job, which it killed.
	_ = s.cmd.Wait()
	if running(pid) {
		t.Errorf("process %d runs on", pid)
	}
	if err := s.output.Close(); err != nil {
		t.Error(err)
	}
}

func TestBlocksForAnotherMachineAreLeftOut(t *testing.T) {
	const text = "```console\n$ echo here\nhere\n```\n<!-- readme: on debian -->\n```console\n$ echo there\nthere\n```\n"
	blocks, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, on := range []string{"", "debian"} {
		var run []string
		err := Run(t.Context(), blocks, Options{Dir: t.TempDir(), On: on, Logf: func(_ string, args ...any) { run = append(run, args[1].(string)) }})
		if errors.Is(err, ErrNoShell) {
			t.Skip("bash is not installed")
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{"": "echo here", "debian": "echo there"}[on]; len(run) != 1 || run[0] != want {
			t.Errorf("on %q: got %q run, want %q alone", on, run, want)
		}
	}
}
