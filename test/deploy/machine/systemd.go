package machine

import (
	_ "embed"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed systemctl
var systemctl []byte

// BootSystemd has a copy of a machine look as if systemd ran there, for one unit, snakes.service: a systemctl starts and stops it as
// the unit says. What it told of its state last is in /run/snakes-unit/status.
func BootSystemd(t *testing.T) {
	t.Helper()
	if !Inside() {
		t.Fatal("systemd is booted on copies of machines only")
	}
	const told = "/run/snakes-unit"
	for _, dir := range []string{"/run/systemd/system", told, "/usr/local/bin"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("/usr/local/bin/systemctl", systemctl, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := "/run/systemd/notify"
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buffer := make([]byte, 4096); ; {
			n, err := conn.Read(buffer)
			if err != nil {
				return // it is closed
			}
			for line := range strings.SplitSeq(string(buffer[:n]), "\n") {
				name, value, _ := strings.Cut(line, "=")
				switch name {
				case "READY", "STATUS":
					if err := os.WriteFile(filepath.Join(told, strings.ToLower(name)), []byte(value), 0o644); err != nil {
						t.Error(err)
					}
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close() // it is only read from
		<-done
	})
}
