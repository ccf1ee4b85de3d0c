package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/protocol7/snakes/test/cluster"
)

const (
	// inside is set in the environment of a test on the copy, to its name.
	inside = "SNAKES_TEST_MACHINE"
	// program is the path of the test's program there.
	program = "/srv/test.program"
)

// script makes the copy in $1 and runs the rest of the arguments there; $MOUNTS are lines of what to show where.
const script = `set -e
copy=$1; shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$copy"
mkdir "$copy/upper" "$copy/work" "$copy/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$copy/upper,workdir=$copy/work" "$copy/root"
root=$copy/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/srv" "$root/run/lock"
touch "$root` + program + `"
mount --bind "$1" "$root` + program + `"
printf '%s' "$MOUNTS" | while read -r from to; do
  mkdir -p "$root$to"
  mount --bind "$from" "$root$to"
done
ip link set lo up
shift
exec chroot "$root" ` + program + ` "$@"
`

// Inside reports whether this process runs on a copy of a machine.
func Inside() bool { return os.Getenv(inside) != "" }

// Enter runs the test that calls it, and no other one, on a copy of this machine, and fails or skips it here as it does there. It
// returns false here, once that has ended, and true there. mounts are directories of this machine, by where they are to be seen there.
func Enter(t *testing.T, mounts map[string]string) bool {
	t.Helper()
	if Inside() {
		return os.Getenv(inside) == t.Name()
	}
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		cluster.Missing(t, "this test runs on a copy of the machine, for which it must be root on Linux")
	}
	for _, tool := range []string{"unshare", "ip", "chroot"} {
		if _, err := exec.LookPath(tool); err != nil {
			cluster.Missing(t, "this test runs on a copy of the machine: %v", err)
		}
	}
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for to, from := range mounts {
		fmt.Fprintf(&lines, "%s %s\n", from, to)
	}
	copied, err := os.MkdirTemp("", "snakes-machine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(copied); err != nil { // what was mounted there went with the namespace
			t.Errorf("remove what the copy was made in: %v", err)
		}
	})
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc", "--",
		"bash", "-c", script, "bash", copied, self, "-test.run", "^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), inside+"="+t.Name(), "MOUNTS="+lines.String(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/srv", "TMPDIR=/tmp")
	output, err := cmd.CombinedOutput()
	t.Logf("on the copy:\n%s", output)
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("on the copy: %v", e)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Fatal("on the copy: the test has not run")
	}
	return false
}
