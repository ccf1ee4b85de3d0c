package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// buildDir is where the binary is built; empty until then. Main removes it.
var buildDir string

var build = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	buildDir, err = os.MkdirTemp("", "snakes-test-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the binary: %w", err)
	}
	path := filepath.Join(buildDir, "snakes")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/snakes")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ./cmd/snakes: %w\n%s", err, out)
	}
	return path, nil
})

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module's root: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// Main runs a package's tests and removes the binary that they built. It returns the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	if buildDir != "" {
		if err := os.RemoveAll(buildDir); err != nil {
			fmt.Fprintln(os.Stderr, "remove the test binary:", err)
		}
	}
	return code
}

// Binary returns the path of the snakes binary, built from ./cmd/snakes at the first call in this process, with the
// race detector when the test has it. It fails the test when the build fails.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Raced reports whether nodes are built with the race detector, with which they take several times the memory and the time.
func Raced() bool { return raceEnabled }

// Missing skips the test because this machine lacks something that it needs; with CI=true in the environment, where
// a skipped test would pass for a green one, it fails the test instead.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true allows no skip: "+format, args...)
	}
	t.Skipf(format, args...)
}
