package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/protocol7/snakes/node/client/load"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == bareFlag {
		fmt.Fprintln(os.Stderr, serveBare(os.Args[2]))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func TestCellsHaveNamesOfTheirOwn(t *testing.T) {
	cells := plan([]int{16, 256, 16 << 10, 256 << 10}, []int{1, 64, 256})
	seen := make(map[string]bool)
	for i, c := range cells {
		if seen[c.name()] {
			t.Errorf("two cells are called %s", c.name())
		}
		seen[c.name()] = true
		if i > 0 && cells[i-1].down && !c.down {
			t.Errorf("%s comes after a node was lost", c.name())
		}
	}
	for _, want := range []string{
		"PUT w=3, 256 B, 1 conn", "PUT w=3, 256 B, 256 conn", "PUT w=quorum, 256 B, 64 conn", "PUT w=1, 256 B, 64 conn",
		"GET r=3, 256 B, 64 conn", "GET r=1, 256 B, 256 conn", "MIX 95/5 zipf r=w=3, 256 B, 64 conn", "PUT w=3, 16 B, 64 conn",
		"PUT w=3, 16 KiB, 64 conn", "PUT w=3, 256 KiB, 64 conn", "PUT w=3, 256 B, 64 conn, fresh keys",
		"PUT w=quorum, 256 B, 64 conn, one of three down",
	} {
		if !seen[want] {
			t.Errorf("there is no %s", want)
		}
	}
}

func TestGoalsAreMeasuredByThePlan(t *testing.T) {
	r := &report{}
	for _, c := range plan([]int{256}, []int{1, 64}) {
		o := outcome{c, make(map[string]*sample)}
		for _, name := range systems {
			if c.suits(name) {
				o.samples[name] = someSample(t, 100, time.Second)
			}
		}
		r.outcomes = append(r.outcomes, o)
	}
	goals := new(table)
	r.workGoals(goals)
	for _, row := range goals.rows {
		if row[3] == notMeasured {
			t.Errorf("%s (%s) is not measured", row[0], row[1])
		}
	}
	if len(goals.rows) != 8 {
		t.Errorf("got %d goals, want 8", len(goals.rows))
	}
}

// someSample is of n requests that an HTTP server has answered.
func someSample(t *testing.T, n uint64, elapsed time.Duration) *sample {
	t.Helper()
	s := &sample{Result: someResult(t, n, elapsed), cpu: time.Duration(n) * 50 * time.Microsecond, client: time.Duration(n) * 10 * time.Microsecond}
	s.slowest, s.fastest = 0.9*s.Throughput(), 1.1*s.Throughput()
	s.memory = 30e6
	return s
}

func someResult(t *testing.T, n uint64, elapsed time.Duration) load.Result {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	l, err := load.Start(t.Context(), load.Config{Servers: []string{server.URL}, Connections: 1, Requests: n})
	if err != nil {
		t.Fatal(err)
	}
	result := l.Wait()
	result.Elapsed = elapsed
	return result
}

func TestGoalsAreMetOrMissedByWhatWasMeasured(t *testing.T) {
	put := cell{op: load.Put, level: "3", size: baseSize, connections: baseConnections}
	for _, test := range []struct {
		snakes, etcd uint64
		want         string
	}{{200, 100, "met"}, {199, 100, "missed"}} {
		r := &report{outcomes: []outcome{{put, map[string]*sample{
			"snakes": someSample(t, test.snakes, time.Second), "etcd": someSample(t, test.etcd, time.Second),
		}}}}
		if row := r.goals().rows[0]; row[3] != test.want {
			t.Errorf("%d against %d: got %v, want %s", test.snakes, test.etcd, row, test.want)
		}
	}
	healthy, late := someResult(t, 1000, time.Second), someResult(t, 790, time.Second)
	r := &report{
		faults: []faultRun{{op: load.Put, fault: "frozen", healthy: healthy, after: late}},
		sleep:  &faultRun{after: load.Result{Failed: map[string]uint64{"503": 1}}},
		growth: &growth{
			wanted: 1_000_000, idle: []idle{{cpu: 0.004, memory: 29e6, liveHeap: 5e6}}, liveHeap: 156e6, stages: []stage{{keys: fewKeys}, {keys: 1_000_000}},
			stopped: time.Second, killed: 4 * time.Second, digest: latencies{time.Millisecond}, members: latencies{time.Millisecond},
			page: latencies{20 * time.Millisecond}, pageBytes: 13_000,
		},
	}
	verdicts := make(map[string]string)
	for _, row := range r.goals().rows {
		verdicts[row[0]+": "+row[1]] = row[3]
	}
	for goal, want := range map[string]string{
		"PUT quorum, one of three frozen: ≥ 0.8 of before, p99 ≤ 2 ×":        "missed",
		"all three frozen for 6 s and resumed: none failed from 1.5 s after": "missed",
		"1,000,000 keys: ready ≤ 3 s after restart":                          "missed",
		"1,000,000 keys: digest and members ≤ 5 ms (p99)":                    "met",
		"1,000,000 keys: live heap ≤ 150 B a key":                            "missed",
		"idle, no keys: ≤ 0.5 % of a core, ≤ 30 MB, no writes":               "met",
		"PUT w=3, 256 B, 64 conn: ≥ 2 × etcd":                                notMeasured,
	} {
		if verdicts[goal] != want {
			t.Errorf("%s: got %q, want %q", goal, verdicts[goal], want)
		}
	}
}

func TestMetricsAreFoundByTheirWholeName(t *testing.T) {
	const text = "# TYPE go_x gauge\ngo_x_total 7\ngo_x 1.5e+06\n"
	if got, err := metric([]byte(text), "go_x"); got != 1.5e6 || err != nil {
		t.Errorf("got %v, %v, want 1500000", got, err)
	}
	if got, err := metric([]byte(text), "go_"); err == nil {
		t.Errorf("got %v for a part of a name, want an error", got)
	}
}

// fixed is a report whose figures do not depend on this machine.
func fixed() *report {
	put, get := cell{op: load.Put, level: "3", size: 256, connections: 64}, cell{op: load.Get, level: "1", size: 256, connections: 64}
	window := func(failed map[string]uint64) load.Result { return load.Result{Elapsed: time.Second, Failed: failed} }
	return &report{
		machine:  machine{"A processor", 2, "4 GiB", "Linux 6.1 amd64", "tmpfs", "go1.26", ""},
		settings: " -quick", day: "2026-11-22", took: 90 * time.Second,
		floor: floor{latencies{time.Millisecond}, latencies{100 * time.Microsecond, 2500 * time.Microsecond}},
		outcomes: []outcome{
			{put, map[string]*sample{
				"snakes": {Result: window(map[string]uint64{"503": 2}), written: 4096, stored: 1024, memory: 31e6, slowest: 9000, fastest: 15000},
			}},
			{get, map[string]*sample{"snakes": {memory: 31e6}, "bare": {memory: 12e6}}},
		},
		faults: []faultRun{{op: load.Put, fault: "killed", began: time.Second, timeline: []moment{{time.Second, window(nil)}}}},
		sleep:  &faultRun{op: load.Mix, fault: "all frozen", began: time.Second},
		growth: &growth{
			idle: []idle{{cpu: 0.0031, memory: 21e6, liveHeap: 4e6, over: 10 * time.Second}}, stages: []stage{{keys: 10_000, memory: 40e6}, {keys: 500_000, memory: 200e6}},
			wanted: 1_000_000, stopped: 1234 * time.Millisecond, killed: 2 * time.Second, afterRestart: 150e6, liveHeap: 104e6,
			digest: latencies{800 * time.Microsecond}, members: latencies{time.Millisecond},
			page: latencies{60 * time.Millisecond}, pageBytes: 13_000,
		},
		problems: []error{errors.New("faults: it broke\nin the middle")},
	}
}

func TestReportIsTheSameTextAsBefore(t *testing.T) {
	path := filepath.Join("testdata", "RESULTS.md")
	got := fixed().Markdown()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got another report; run with -update if it is right:\n%s", got)
	}
}

func TestReportIsWrittenWithTheChartsThatItShowsAndNoOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old.svg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := fixed()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
		if strings.HasSuffix(entry.Name(), ".svg") && !strings.Contains(r.Markdown(), "]("+entry.Name()+")") {
			t.Errorf("%s is in no report", entry.Name())
		}
	}
	want := []string{"RESULTS.md", "faults-all.svg", "faults-put.svg", "latency.svg", "throughput.svg"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRoundsAddUp(t *testing.T) {
	var s sample
	for _, n := range []uint64{100, 300} {
		round := *someSample(t, n, time.Second)
		round.written, round.stored = 10*n, n
		s.add(round)
	}
	if s.Throughput() != 200 || s.slowest != 100 || s.fastest != 300 || s.each(s.cpu) != 50*time.Microsecond || s.amplification() != 10 {
		t.Errorf("got %v/s, %v to %v, %v each, %v written", s.Throughput(), s.slowest, s.fastest, s.each(s.cpu), s.amplification())
	}
}

func TestTheLongestMountPointIsTheFileSystem(t *testing.T) {
	mounts := []byte("overlay / overlay rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/a /tmp/disk xfs rw 0 0\n/dev/b /home ext3 rw 0 0\n/dev/c /home ext4 rw 0 0\nbad\n")
	for path, want := range map[string]string{
		"/": "overlay", "/tmpx": "overlay", "/tmp": "tmpfs", "/tmp/a": "tmpfs", "/tmp/disk/a": "xfs", "/tmp/disks": "tmpfs", "/home/a": "ext4",
	} {
		if got := fileSystem(mounts, path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got := fileSystem(nil, "/"); got != "unknown file system" {
		t.Errorf("without mounts: got %s", got)
	}
}

func TestDeviceCountsSectorsWritten(t *testing.T) {
	const text = "  100 2 3000 4   200 6 7000 8   0 9 10  0 0 0 0 0 0\n"
	if got, err := parseDevice(text); err != nil || got != 7000*512 {
		t.Errorf("got %d, %v; want %d", got, err, 7000*512)
	}
	for _, text := range []string{"", "1 2 3 4 5 6 7", "1 2 3 4 5 6 x 8 9 10 11"} {
		if got, err := parseDevice(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

func TestEtcdFormatIsItsHTTPAPI(t *testing.T) {
	for _, test := range []struct {
		read string
		op   load.Op
		want load.Message
	}{
		{"1", load.Get, load.Message{Method: "GET", Target: "/v2/keys/k"}},
		{"quorum", load.Get, load.Message{Method: "GET", Target: "/v2/keys/k?quorum=true"}},
		{"3", load.Put, load.Message{Method: "PUT", Target: "/v2/keys/k", ContentType: "application/x-www-form-urlencoded", Body: []byte("value=v")}},
		{"3", load.Delete, load.Message{Method: "DELETE", Target: "/v2/keys/k"}},
	} {
		got := etcdFormat(test.read, "3")(test.op, "k", []byte("v"))
		if got.Method != test.want.Method || got.Target != test.want.Target || got.ContentType != test.want.ContentType || !bytes.Equal(got.Body, test.want.Body) {
			t.Errorf("%v: got %+v, want %+v", test.op, got, test.want)
		}
	}
	if form, err := url.ParseQuery("value=" + string(load.Value(1000))); err != nil || form.Get("value") != string(load.Value(1000)) {
		t.Errorf("a value is not what it is in a form: %v", err)
	}
}

func TestRelayPassesOnLateWhatItGets(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	packets, err := net.ListenPacket("udp", echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRelay(loopback(ports[0]), echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	tcp, err := net.Dial("tcp", loopback(ports[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.Dial("udp", loopback(ports[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, delay := range []time.Duration{0, 100 * time.Millisecond} {
		r.delay.Store(int64(delay))
		begun := time.Now()
		for _, c := range []net.Conn{tcp, udp} {
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Fatal(err)
			}
		}
		var got [5]byte
		if _, err := io.ReadFull(tcp, got[:]); err != nil || string(got[:]) != "hello" {
			t.Fatalf("TCP: got %q, %v", got, err)
		}
		if took := time.Since(begun); took < delay {
			t.Errorf("TCP: took %v, want at least %v", took, delay)
		}
		if n, _, err := packets.ReadFrom(got[:]); err != nil || string(got[:n]) != "hello" {
			t.Fatalf("UDP: got %q, %v", got[:n], err)
		}
		if took := time.Since(begun); took < delay {
			t.Errorf("UDP: took %v, want at least %v", took, delay)
		}
	}
}

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range []string{
		"-parts nonsense", "-sizes 0", "-sizes 1,x", "-connections 0", "-work (", "-duration 1ms", "-rounds 0", "-many 10000", "now", "-nonsense",
	} {
		var stderr strings.Builder
		if err := run(t.Context(), strings.Fields(args), io.Discard, &stderr); !errors.Is(err, errUsage) || stderr.Len() == 0 {
			t.Errorf("%s: got %v, %q; want a usage error in words", args, err, stderr.String())
		}
	}
}

func TestQuickIsBeatenByFlags(t *testing.T) {
	var b bench
	f := newFlags(&b.settings, io.Discard)
	if err := f.Parse([]string{"-quick", "-duration", "5s", "-sizes", "16"}); err != nil {
		t.Fatal(err)
	}
	b.hurry(f)
	if err := b.check(nil); err != nil {
		t.Fatal(err)
	}
	if b.duration != 5*time.Second || !slices.Equal(b.sizes, []int{16}) || b.rounds != 1 {
		t.Errorf("got %v, sizes %v, %d rounds", b.duration, b.sizes, b.rounds)
	}
}

func TestReportsDoNotNamePlacesOfThisMachine(t *testing.T) {
	args := []string{"-quick", "-dir", "/home/me/data", "-out=/home/me/out", "-work", "GET r=1", "--etcd", "/home/me/etcd"}
	if got, want := words(args), " -quick -work 'GET r=1'"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCellsRunOnRealProcesses drives three nodes of snakes and bare net/http through a whole, very short run.
func TestCellsRunOnRealProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and starts nodes")
	}
	out := t.TempDir()
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), []string{
		"-parts", "floor,work", "-work", "(GET r=1|PUT w=3), 256 B, 1 conn$|PUT.*down", "-connections", "1", "-keys", "20",
		"-duration", "100ms", "-warmup", "100ms", "-rounds", "1", "-etcd", "", "-dir", t.TempDir(), "-out", out,
	}, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	for _, want := range []string{
		"\n| GET r=1, 256 B, 1 conn ", "\n| PUT w=3, 256 B, 1 conn ", "\n| PUT w=quorum, 256 B, 64 conn, one of three down ", "| bare ",
	} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("got no %q in\n%s", want, stdout.String())
		}
	}
	if _, err := os.Stat(filepath.Join(out, "throughput.svg")); err != nil {
		t.Error(err)
	}
}

func TestACancelledRunEndsSoonAndRemovesItsData(t *testing.T) {
	dir := t.TempDir()
	ctx, end := context.WithCancelCause(t.Context())
	end(errInterrupted)
	err := run(ctx, []string{"-parts", "floor", "-binary", "unused", "-etcd", "", "-dir", dir, "-out", ""}, io.Discard, io.Discard)
	if !errors.Is(err, errInterrupted) {
		t.Errorf("got %v, want that it was interrupted", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left %v, %v; want nothing", entries, err)
	}
}
