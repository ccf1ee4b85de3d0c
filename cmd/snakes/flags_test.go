package main

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/protocol7/snakes/node"
)

func TestSizesHaveUnits(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "1048576": 1 << 20, "7B": 7, "1kB": 1000, "1KB": 1000, "10MB": 10_000_000, "2GB": 2_000_000_000,
		"512KiB": 512 << 10, "1MiB": 1 << 20, "1mib": 1 << 20, "3 GiB": 3 << 30, "0x": 0, "": 0, "MiB": 0, "0": 0, "0MiB": 0,
		"-1": 0, "+1": 0, "1.5MiB": 0, "1M": 0, "1TiB": 0, "1 1": 0, "1MiB1": 0, " 1": 0, "1e3": 0, "1_000": 0,
		strconv.Itoa(math.MaxInt64): math.MaxInt64, "9223372036854775808": 0, "8589934591GiB": 8589934591 << 30, "8589934592GiB": 0,
	} {
		size := byteSize(-1)
		err := size.Set(text)
		if want == 0 && (err == nil || size != -1) {
			t.Errorf("%q: got %d, error %v; want an error and no change", text, size, err)
		}
		if want != 0 && (err != nil || int64(size) != want) {
			t.Errorf("%q: got %d, error %v; want %d", text, size, err, want)
		}
	}
}

func TestSizesAreShownAsTheyCanBeGiven(t *testing.T) {
	for size, want := range map[byteSize]string{1: "1B", 1 << 20: "1MiB", 1536: "1536B", 512 << 10: "512KiB", 10e6: "10MB", 3 << 40: "3072GiB"} {
		var back byteSize
		if got := size.String(); got != want || back.Set(got) != nil || back != size {
			t.Errorf("%d: got %q, which reads as %d; want %q", int64(size), got, back, want)
		}
	}
}

func TestLimitsAreSizesOrNone(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1": 1, "10MB": 10_000_000, "64KiB": 64 << 10} {
		limit := byteLimit(-1)
		if err := limit.Set(text); err != nil || int64(limit) != want {
			t.Errorf("%q: got %d, error %v; want %d", text, limit, err, want)
		}
		var back byteLimit
		if err := back.Set(limit.String()); err != nil || back != limit {
			t.Errorf("%d is shown as %q, which reads as %d, error %v", int64(limit), limit.String(), back, err)
		}
	}
	for _, text := range []string{"", "-1", "0MiB", "1.5MiB", "none"} {
		limit := byteLimit(7)
		if err := limit.Set(text); err == nil || limit != 7 {
			t.Errorf("%q: got %d, error %v; want an error and no change", text, limit, err)
		}
	}
}

// configOf returns what a command line and an environment make of a node, and what is logged about it.
func configOf(t *testing.T, env map[string]string, args ...string) (node.Config, string, error) {
	t.Helper()
	var stderr bytes.Buffer
	s := newServer(program{args: args, getenv: func(name string) string { return env[name] }, stderr: &stderr})
	if err := s.command().ParseFlags(args); err != nil {
		return node.Config{}, "", err
	}
	cfg, _, err := s.config()
	cfg.Logger, cfg.Output, cfg.Version = nil, nil, ""
	return cfg, stderr.String(), err
}

func TestFlagBeatsEnvironmentBeatsDefault(t *testing.T) {
	defaults := node.Config{
		Port: node.DefaultPort, Data: node.DefaultData, Cluster: node.DefaultCluster,
		MaxValue: node.DefaultMaxValue, DrainTimeout: node.DefaultDrainTimeout, TombstoneAge: node.DefaultTombstoneAge,
		CheckpointBytes: node.DefaultCheckpointBytes,
	}
	env := map[string]string{
		"SNAKES_PORT": "0", "SNAKES_DATA": "d", "SNAKES_JOIN": "a,b:1", "SNAKES_BIND": "::1", "SNAKES_ADVERTISE": "h:2",
		"SNAKES_NAME": "n", "SNAKES_CLUSTER": "c", "SNAKES_SECRET_FILE": "s", "SNAKES_INSECURE": "true", "SNAKES_MAX_VALUE": "2MiB", "SNAKES_DRAIN_TIMEOUT": "3s",
		"SNAKES_TLS_CERT": "c.pem", "SNAKES_TLS_KEY": "k.pem", "SNAKES_SYNC_LIMIT": "10MB", "SNAKES_TOMBSTONE_AGE": "1m", "SNAKES_CHECKPOINT_SIZE": "3MiB",
	}
	fromEnv := node.Config{
		Port: 0, Data: "d", Join: []string{"a,b:1"}, Bind: "::1", Advertise: "h:2",
		Name: "n", Cluster: "c", SecretFile: "s", TLSCert: "c.pem", TLSKey: "k.pem", Insecure: true, MaxValue: 2 << 20, SyncLimit: 10e6, DrainTimeout: 3 * time.Second, TombstoneAge: time.Minute,
		CheckpointBytes: 3 << 20,
	}
	flags := []string{
		"-p", "7", "-d", "x", "--join", "s", "--join", "t,u", "--bind", "127.0.0.2", "--advertise", "i",
		"--name", "m", "--cluster", "k", "--secret-file", "f", "--tls-cert", "d.pem", "--tls-key", "l.pem", "--insecure=false", "--max-value", "5", "--sync-limit", "0", "--tombstone-age", "2s", "--drain-timeout", "0", "--checkpoint-size", "5MiB",
	}
	fromFlags := node.Config{
		Port: 7, Data: "x", Join: []string{"s", "t,u"}, Bind: "127.0.0.2", Advertise: "i",
		Name: "m", Cluster: "k", SecretFile: "f", TLSCert: "d.pem", TLSKey: "l.pem", MaxValue: 5, TombstoneAge: 2 * time.Second, DrainTimeout: 1, // zero is Config's default, not what was asked for
		CheckpointBytes: 5 << 20,
	}
	for _, test := range []struct {
		name string
		env  map[string]string
		args []string
		want node.Config
	}{
		{"neither", nil, nil, defaults},
		{"environment", env, nil, fromEnv},
		{"flags", nil, flags, fromFlags},
		{"both", env, flags, fromFlags},
		{"empty variables", map[string]string{"SNAKES_PORT": "", "SNAKES_JOIN": "", "SNAKES_INSECURE": ""}, nil, defaults},
		{"variables of others", map[string]string{"SNAKES_PORT_9000_TCP": "x", "SNAKES_HELP": "true", "SNAKES_SERVER": "x"}, nil, defaults},
		{"flags beat nonsense", map[string]string{"SNAKES_PORT": "nonsense"}, []string{"--port=9000"}, defaults},
	} {
		got, log, err := configOf(t, test.env, test.args...)
		if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); err != nil || log != "" || diff != "" {
			t.Errorf("%s: error %v, log %q, config (-want +got):\n%s", test.name, err, log, diff)
		}
	}
}

func TestPortOfAKubernetesServiceIsIgnoredWithOneLine(t *testing.T) {
	env := map[string]string{"SNAKES_PORT": "tcp://10.0.0.1:9000"}
	cfg, log, err := configOf(t, env)
	if err != nil || cfg.Port != node.DefaultPort {
		t.Errorf("got port %d, error %v; want the default", cfg.Port, err)
	}
	if strings.Count(log, "\n") != 1 || !strings.Contains(log, "SNAKES_PORT") {
		t.Errorf("got log %q, want one line that names the variable", log)
	}
	if _, log, _ := configOf(t, env, "-p", "1"); log != "" {
		t.Errorf("got log %q with a flag, want none", log)
	}
	for _, level := range []string{"trace", "debug", "info", "warn", "error"} {
		if _, _, err := configOf(t, map[string]string{"SNAKES_LOG_LEVEL": level}); err != nil {
			t.Errorf("log level %s: %v", level, err)
		}
	}
}

func TestJSONLogsAreJSON(t *testing.T) {
	var stderr bytes.Buffer
	newLogger(program{stderr: &stderr}, "info", "json").Info("started", "node", "a")
	if got := stderr.String(); !strings.HasPrefix(got, "{") || !strings.Contains(got, `"node":"a"`) {
		t.Errorf("got %q, want JSON", got)
	}
}
