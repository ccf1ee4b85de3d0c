package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/protocol7/snakes/test/cluster"
)

// mostExposed is what the unit may have at most in the view of systemd, of 10.
const mostExposed = 2.0

// unit writes the unit for operators into a directory, with the program where it is on this machine, and returns its path.
func unit(t *testing.T, without ...string) string {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/systemd/snakes.service")
	must(t, err)
	const program = "ExecStart=/usr/bin/snakes\n"
	if strings.Count(string(text), program) != 1 {
		t.Fatalf("want %q once", program)
	}
	changed := strings.Replace(string(text), program, "ExecStart="+cluster.Binary(t)+"\n", 1)
	for _, name := range without {
		line := regexp.MustCompile(`(?m)^` + name + `=.*\n`)
		if !line.MatchString(changed) {
			t.Fatalf("the unit has no %s", name)
		}
		changed = line.ReplaceAllString(changed, "")
	}
	path := filepath.Join(t.TempDir(), "snakes.service")
	must(t, os.WriteFile(path, []byte(changed), 0o644))
	return path
}

// analyze runs systemd-analyze and returns what it prints.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		cluster.Missing(t, "this test runs systemd-analyze, of Debian's package systemd: %v", err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=", "LC_ALL=C.UTF-8")
	output, err := cmd.CombinedOutput()
	return string(output), err
}

func exposure(t *testing.T, path string) float64 {
	t.Helper()
	output, err := analyze(t, "security", "--offline=true", "--threshold=100", "--no-pager", path)
	if err != nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, output)
	}
	found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+) `).FindStringSubmatch(output)
	if found == nil {
		t.Fatalf("systemd-analyze security told no level:\n%s", output)
	}
	level, err := strconv.ParseFloat(found[1], 64)
	must(t, err)
	return level
}

func TestUnitExposesLittle(t *testing.T) {
	if got := exposure(t, unit(t)); got > mostExposed {
		t.Errorf("got an exposure of %v, want %v at most; systemd-analyze security --offline=true deploy/systemd/snakes.service tells why", got, mostExposed)
	}
	if got := exposure(t, unit(t, "CapabilityBoundingSet", "SystemCallFilter", "User")); got <= mostExposed {
		t.Errorf("got an exposure of %v for a unit that may do anything: this test sees nothing", got)
	}
}

func TestUnitHasNoMistakes(t *testing.T) {
	if output, err := analyze(t, "verify", "--man=no", unit(t)); err != nil || strings.TrimSpace(output) != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, output)
	}
	wrong := unit(t)
	text, err := os.ReadFile(wrong)
	must(t, err)
	must(t, os.WriteFile(wrong, []byte(strings.Replace(string(text), "WatchdogSec=", "WatchDogSec=", 1)), 0o644))
	if output, _ := analyze(t, "verify", "--man=no", wrong); !strings.Contains(output, "WatchDogSec") {
		t.Errorf("got %q for a directive that does not exist: this test sees nothing", output)
	}
}

// What the unit promises systemd must be what the node does.
func TestUnitWaitsLongerThanTheNodeTakes(t *testing.T) {
	text, err := os.ReadFile(unit(t))
	must(t, err)
	for _, line := range []string{"Type=notify", "Restart=on-failure", "RestartPreventExitStatus=2", "ExecReload=/bin/kill -HUP $MAINPID"} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("the unit has no %s", line)
		}
	}
	var seconds int
	found := regexp.MustCompile(`(?m)^TimeoutStopSec=.*$`).FindString(string(text))
	if _, err := fmt.Sscanf(found, "TimeoutStopSec=%ds", &seconds); err != nil || seconds < 20 {
		t.Errorf("got %q, want 20s or more: a node takes --drain-timeout, 10s, to stop", found)
	}
}
