package membership

import (
	"bytes"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestLinesOfMemberlistKeepTheirLevel(t *testing.T) {
	for _, row := range []struct {
		line, want string
		at         hclog.Level
	}{
		{"[WARN] memberlist: Refuting a suspect message (from: b)\n", "[WARN]  refuting a suspect message: line=\"Refuting a suspect message (from: b)\"\n", hclog.Info},
		{"[ERR] memberlist: Failed push/pull merge: no from=127.0.0.1:1\n", "[ERROR] failed push/pull merge: line=\"Failed push/pull merge: no from=127.0.0.1:1\"\n", hclog.Info},
		{"[ERR] memberlist: Failed to send gossip to 127.0.0.1:1: refused\n", "[ERROR] failed to send gossip to: line=\"Failed to send gossip to 127.0.0.1:1: refused\"\n", hclog.Info},
		{"[INFO] memberlist: Suspect b has failed\n", "", hclog.Info},
		{"[DEBUG] memberlist: Stream connection from=127.0.0.1:1\n", "", hclog.Info},
		{"[INFO] memberlist: Marking 5f as failed\n", "[DEBUG] marking: line=\"Marking 5f as failed\"\n", hclog.Debug},
		{"[WARN] memberlist: Refuting\n", "", hclog.Error},
	} {
		var out bytes.Buffer
		log := &listLog{hclog.New(&hclog.LoggerOptions{Output: &out, Level: row.at, DisableTime: true})}
		if n, err := log.Write([]byte(row.line)); n != len(row.line) || err != nil {
			t.Errorf("%q: got %d, %v, want all of it", row.line, n, err)
		}
		if got := out.String(); got != row.want {
			t.Errorf("%q at %v: got %q, want %q", row.line, row.at, got, row.want)
		}
	}
}
