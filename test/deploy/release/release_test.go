// Package release has the tests of deploy/release.
package release

import (
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/protocol7/snakes/test/cluster"
)

const root = "../../.."

func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
	return string(output)
}

// copied returns a copy of the committed source in another directory, with its history.
func copied(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "somewhere", "else")
	run(t, "", nil, "git", "-c", "safe.directory=*", "clone", "-q", "--no-hardlinks", "file://"+source, dir)
	return dir
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Two builds in two places, one with other settings in the environment, are the same bytes.
func TestReleaseIsTheSameBytesWhereverItIsBuilt(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		cluster.Missing(t, "releases are built on Linux, and this runs the program for amd64")
	}
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		cluster.Missing(t, "this test needs the repository: %v", err)
	}
	here, elsewhere := copied(t), copied(t)
	first := run(t, here, nil, "go", "run", "./deploy/release", "-version", "1.2.3-test", "-o", "dist", "-only", "linux/amd64,windows/arm64")
	second := run(t, elsewhere, []string{"GOFLAGS=-tags=other", "CGO_ENABLED=1", "GOARM64=v9.0"},
		"go", "run", "./deploy/release", "-version", "1.2.3-test", "-o", "out/put", "-only", "linux/amd64,windows/arm64")
	if first != second || strings.Count(first, "\n") != 2 {
		t.Errorf("got\n%s and elsewhere\n%swant the same two files", first, second)
	}
	if sums := read(t, filepath.Join(here, "dist", "SHA256SUMS")); sums != first {
		t.Errorf("SHA256SUMS: got\n%swant\n%s", sums, first)
	}
	for line := range strings.Lines(first) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		content := read(t, filepath.Join(here, "dist", name))
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(content))); got != sum {
			t.Errorf("%s: got checksum %s, want %s", name, got, sum)
		}
		if strings.Contains(content, here) {
			t.Errorf("%s has the path in it that it was built at", name)
		}
	}

	program := filepath.Join(here, "dist", "snakes-1.2.3-test-linux-amd64")
	revision := strings.TrimSpace(run(t, here, nil, "git", "rev-parse", "--short=12", "HEAD"))
	want := regexp.MustCompile(`^snakes 1\.2\.3-test, revision ` + revision + `, go\S+, linux/amd64\n$`)
	if got := run(t, "", nil, program, "version"); !want.MatchString(got) {
		t.Errorf("snakes version: got %q, want %s", got, want)
	}
	linked, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer linked.Close()
	if slices.ContainsFunc(linked.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }) {
		t.Error("the program for Linux is not static")
	}
}

func TestReleaseRefusesVersionsThatNodesCannotTell(t *testing.T) {
	for _, version := range []string{"1.0 final", strings.Repeat("1", 33), "-1"} {
		cmd := exec.Command("go", "run", "./deploy/release", "-version="+version, "-o", t.TempDir())
		cmd.Dir = root
		if output, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(output), "is no version") {
			t.Errorf("version %q: got %v, %s", version, err, output)
		}
	}
}
