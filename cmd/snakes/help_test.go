package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// everyCommand are all commands that people are told of, by their path.
func everyCommand(t *testing.T) map[string]*cobra.Command {
	t.Helper()
	p := program{getenv: func(string) string { return "" }, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	root, _ := p.root()
	all := make(map[string]*cobra.Command)
	for _, cmd := range documented(root) {
		all[cmd.CommandPath()] = cmd
	}
	return all
}

func TestEveryCommandHasHelpWithAnExampleThatIsItsOwn(t *testing.T) {
	all := everyCommand(t)
	if len(all) < 20 {
		t.Fatalf("got %d commands, want all", len(all))
	}
	for path, cmd := range all {
		if cmd.Short == "" || cmd.Long == "" || !strings.Contains(cmd.Example, path) {
			t.Errorf("%s: got short %q, long %q, example %q; want all three, and the command in the example", path, cmd.Short, cmd.Long, cmd.Example)
		}
		got := runHere(context.Background(), strings.NewReader(""), append(strings.Fields(path)[1:], "--help")...)
		if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, cmd.Example) {
			t.Errorf("%s --help: got exit code %d, %s%s; want help with the example", path, got.code, got.stdout, got.stderr)
		}
	}
}

func TestCompletionScriptsAreTakenByTheirShells(t *testing.T) {
	for _, shell := range shells {
		got := runHere(context.Background(), strings.NewReader(""), "completion", shell.name)
		if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, "snakes") {
			t.Errorf("%s: got exit code %d, %s; want a script", shell.name, got.code, got.stderr)
			continue
		}
		program, err := exec.LookPath(shell.name)
		if err != nil || shell.name == "powershell" {
			t.Logf("%s is not here to read its script", shell.name)
			continue
		}
		check := exec.Command(program, "-n") // read, do not run
		check.Stdin = strings.NewReader(got.stdout)
		if text, err := check.CombinedOutput(); err != nil || len(text) > 0 {
			t.Errorf("%s -n: %v: %s", shell.name, err, text)
		}
	}
	for _, row := range []struct{ line, want string }{
		{"sta", "status\t"}, {"get -o ", "json\n"}, {"get -r q", "quorum\n"}, {"status --wait ", "ready\n"}, {"completion z", "zsh\n"},
	} {
		words := strings.Split(row.line, " ")
		got := runHere(context.Background(), strings.NewReader(""), append([]string{"__complete"}, words...)...)
		if !strings.Contains(got.stdout, row.want) {
			t.Errorf("completion of %q: got %q, want %q in it", row.line, got.stdout, row.want)
		}
	}
}

func TestManualPagesAreRendered(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	if got := runHere(context.Background(), strings.NewReader(""), "man", dir); got.code != 0 {
		t.Fatalf("got exit code %d: %s", got.code, got.stderr)
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("groff is not here to render pages")
	}
	for path, cmd := range everyCommand(t) {
		page := filepath.Join(dir, pageName(cmd)+".1")
		text, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "EXIT STATUS", "SEE ALSO"} {
			if !strings.Contains(string(text), ".SH "+section+"\n") {
				t.Errorf("%s: got no section %s", path, section)
			}
		}
		if groff == "" {
			continue
		}
		render := exec.Command(groff, "-man", "-Tascii", "-P-cbou", "-ww", page) // without bold and underlined letters
		var warnings strings.Builder
		render.Stderr = &warnings
		shown, err := render.Output()
		if err != nil || warnings.Len() > 0 || !strings.Contains(string(shown), "EXIT STATUS") {
			t.Errorf("%s: got %v, %s", path, err, warnings.String())
		}
	}
}

func TestTextsOfManualPagesAreNoCommands(t *testing.T) {
	if got, want := roff(".a\n'b\n\\-c"), "\\&.a\n\\&'b\n\\e\\-c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
