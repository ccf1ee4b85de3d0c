// Package debian has the tests of deploy/debian: lintian's checks of the package, and its life on a copy of this machine.
package debian

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
	"github.com/protocol7/snakes/test/deploy/machine"
	"github.com/protocol7/snakes/test/readme"
)

const root = "../../.."

// Where the files are on the copy.
const (
	packages = "/srv/packages"
	source   = "/srv/source"
)

var dir string // of the packages; TestMain removes it

func TestMain(m *testing.M) {
	code := m.Run()
	if dir != "" {
		_ = os.RemoveAll(dir) // it is a temporary one
	}
	os.Exit(code)
}

// build returns a directory with the packages of two releases.
var build = sync.OnceValues(func() (string, error) {
	var err error
	if dir, err = os.MkdirTemp("", "snakes-debian-"); err != nil {
		return "", err
	}
	for _, version := range []string{"dev", "1.0.0"} {
		cmd := exec.Command("go", "run", "./deploy/debian", "-version", version, "-o", dir)
		cmd.Dir = root
		if output, err := cmd.CombinedOutput(); err != nil {
			return "", errors.Join(err, errors.New(string(output)))
		}
	}
	return dir, nil
})

func built(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		cluster.Missing(t, "the package is tried on Linux, on amd64")
	}
	for _, tool := range []string{"dpkg", "git"} {
		if _, err := exec.LookPath(tool); err != nil {
			cluster.Missing(t, "this test makes and installs a package: %v", err)
		}
	}
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLintianFindsNoErrors(t *testing.T) {
	if _, err := exec.LookPath("lintian"); err != nil {
		cluster.Missing(t, "this test runs lintian, Debian's package of that name: %v", err)
	}
	dir := built(t)
	cmd := exec.Command("lintian", "--no-cfg", "--allow-root", "--fail-on", "error", "--tag-display-limit", "0", filepath.Join(dir, "snakes_1.0.0-1_amd64.deb"))
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("lintian: %v\n%s", err, output)
	} else {
		t.Logf("lintian:\n%s", output)
	}
}

// must runs a command on the copy and returns what it prints.
func must(t *testing.T, line string) string {
	t.Helper()
	output, err := exec.Command("bash", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("$ %s\n%v\n%s", line, err, output)
	}
	return strings.TrimSpace(string(output))
}

func fails(t *testing.T, line string) {
	t.Helper()
	if output, err := exec.Command("bash", "-c", line).CombinedOutput(); err == nil {
		t.Errorf("$ %s\ngot 0, want it to fail\n%s", line, output)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// prepare makes the copy a machine that starts services when they are installed.
func prepare(t *testing.T) {
	t.Helper()
	for _, path := range []string{
		"/usr/sbin/policy-rc.d",
		"/var/lib/man-db/auto-update", // with it each package takes the time to index all pages anew
	} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DEBIAN_FRONTEND", "noninteractive")
}

func TestPackageIsInstalledStartedUpgradedRemovedAndPurged(t *testing.T) {
	if !machine.Inside() && !machine.Enter(t, map[string]string{packages: built(t)}) {
		return
	}
	prepare(t)
	machine.BootSystemd(t)
	const older, newer = packages + "/snakes_0.0.0~dev-1_amd64.deb", packages + "/snakes_1.0.0-1_amd64.deb"

	must(t, "dpkg -i "+older)
	must(t, "snakes put greeting 'hello there'")
	equal(t, "the value", must(t, "snakes get greeting"), "hello there")
	owner := must(t, "stat -c '%U:%G %a' /var/lib/snakes")
	equal(t, "the data's directory", owner, "snakes:snakes 700")
	equal(t, "the process's user", must(t, "stat -c %U /proc/$(cat /var/lib/snakes/data/lock)"), "snakes")
	equal(t, "it is enabled", must(t, "systemctl is-enabled snakes"), "enabled")
	if got := must(t, "snakes version"); !strings.HasPrefix(got, "snakes dev, ") {
		t.Errorf("the version: got %q", got)
	}
	must(t, "test -s /usr/share/bash-completion/completions/snakes -a -s /usr/share/zsh/vendor-completions/_snakes -a -s /usr/share/fish/vendor_completions.d/snakes.fish")
	must(t, "zcat /usr/share/man/man1/snakes.1.gz | grep -q '^.TH'; zcat /usr/share/man/man1/snakes-status.1.gz | grep -q '^.TH'")
	must(t, "bash -c 'source /usr/share/bash-completion/completions/snakes'")

	// What the operator has said stays through an upgrade, and so does the data. The new program runs after it.
	must(t, "echo SNAKES_NAME=ann >> /etc/default/snakes && systemctl restart snakes")
	process := must(t, "cat /var/lib/snakes/data/lock")
	must(t, "dpkg -i "+newer)
	if again := must(t, "cat /var/lib/snakes/data/lock"); again == process {
		t.Errorf("process %s is still there after the upgrade", process)
	}
	equal(t, "the value after the upgrade", must(t, "snakes get greeting"), "hello there")
	must(t, "snakes members | grep -E '^ann\\*? .* 1\\.0\\.0 '")

	// It is stopped when it is removed, and all that is anybody's own stays.
	must(t, "dpkg -r snakes")
	fails(t, "systemctl is-active snakes")
	for _, path := range []string{"/var/lib/snakes/data/keys", "/etc/default/snakes"} {
		if !exists(path) {
			t.Errorf("%s went with the program", path)
		}
	}
	if exists("/usr/bin/snakes") {
		t.Error("the program is still there")
	}
	must(t, "dpkg -i "+newer)
	equal(t, "the value after it was removed and installed again", must(t, "snakes get greeting"), "hello there")

	must(t, "dpkg -P snakes")
	for _, path := range []string{"/var/lib/snakes", "/etc/default/snakes", "/etc/snakes", "/etc/systemd/system/multi-user.target.wants/snakes.service"} {
		if exists(path) {
			t.Errorf("%s is left of what was purged", path)
		}
	}
}

// In a container, say, nobody starts services: the scripts do their work nevertheless.
func TestPackageIsInstalledWhereNoSystemdRuns(t *testing.T) {
	if !machine.Inside() && !machine.Enter(t, map[string]string{packages: built(t)}) {
		return
	}
	prepare(t)
	if exists("/run/systemd/system") {
		t.Fatal("a systemd runs here")
	}
	must(t, "dpkg -i "+packages+"/snakes_1.0.0-1_amd64.deb")
	must(t, "getent passwd snakes")
	must(t, "test -L /etc/systemd/system/multi-user.target.wants/snakes.service") // for the next boot
	must(t, "dpkg -i "+packages+"/snakes_1.0.0-1_amd64.deb")
	must(t, "dpkg -r snakes")
	must(t, "dpkg -P snakes")
	equal(t, "what is left", must(t, "dpkg -l snakes 2>/dev/null | grep -c '^[a-z][a-z] .*snakes' || true"), "0")
}

// README's way to the first value, for whoever has the package or the unit.
func TestReadmeOnANewMachine(t *testing.T) {
	for _, section := range []string{"debian", "systemd"} {
		t.Run(section, func(t *testing.T) {
			if !machine.Inside() {
				here, err := filepath.Abs(root)
				if err != nil {
					t.Fatal(err)
				}
				machine.Enter(t, map[string]string{packages: built(t), source: here, "/srv/program": filepath.Dir(cluster.Binary(t))})
				return
			}
			if !machine.Enter(t, nil) {
				return
			}
			prepare(t)
			machine.BootSystemd(t)
			text, err := os.ReadFile(source + "/README.md")
			if err != nil {
				t.Fatal(err)
			}
			blocks, err := readme.Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			must(t, "printf '#!/bin/sh\\nexec \"$@\"\\n' > /usr/local/bin/sudo && chmod 755 /usr/local/bin/sudo")
			err = readme.Run(t.Context(), blocks, readme.Options{
				On: section, Dir: t.TempDir(), Timeout: time.Minute, Logf: t.Logf,
				Rewrite: func(command string) string {
					return strings.NewReplacer(
						"go run ./deploy/debian -version 1.0.0", "mkdir dist && cp "+packages+"/*.deb dist/",
						"go build -o snakes ./cmd/snakes", "cp /srv/program/snakes . && cp -r "+source+"/deploy .",
					).Replace(command)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
