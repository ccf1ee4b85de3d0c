package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// rulesFile and dashboardFile are what operators take.
const (
	rulesFile     = "../deploy/prometheus/alerts.yml"
	dashboardFile = "../deploy/prometheus/dashboard.json"
)

// prometheusTool returns the path of a program of Prometheus.
func prometheusTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		cluster.Missing(t, "this test runs %s, of Debian's package prometheus: %v", name, err)
	}
	return path
}

func read(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	return string(b)
}

// expressions returns all that the dashboard and the alerts ask Prometheus, by where they ask it.
func expressions(t testing.TB) map[string]string {
	t.Helper()
	asked := make(map[string]string)
	for _, m := range regexp.MustCompile(`alert: (\w+)\n\s+expr: (.*)`).FindAllStringSubmatch(read(t, rulesFile), -1) {
		asked[m[1]] = m[2]
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal([]byte(read(t, dashboardFile)), &dashboard))
	for _, p := range dashboard.Panels {
		for i, target := range p.Targets {
			asked[fmt.Sprint(p.Title, " ", i)] = target.Expr
		}
	}
	return asked
}

// TestDashboardAndAlertsAskForMetricsThatThereAre also looks at labels and their values.
func TestDashboardAndAlertsAskForMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 2)
	n := c.Node(0)
	must(t, n.Put("foo", "x").Expect(201))
	text := n.Do(http.MethodGet, "/-/metrics", "").Body
	asked := expressions(t)
	if len(asked) < 40 {
		t.Fatalf("got %d expressions: they are not found", len(asked))
	}
	metric := regexp.MustCompile(`\b((?:snakes|go|process)_\w+)(\{[^}]*(?:\{key\}"[^}]*)?\})?`)
	equals := regexp.MustCompile(`(\w+)="([^"]*)"`)
	for where, expression := range asked {
		found := metric.FindAllStringSubmatch(expression, -1)
		if len(found) == 0 && !strings.HasPrefix(expression, "up{") {
			t.Errorf("%s: no metric in %s", where, expression)
		}
		for _, m := range found {
			want := []string{"\n" + m[1]}
			for _, l := range equals.FindAllStringSubmatch(m[2], -1) {
				if l[1] != "job" {
					want = append(want, l[0])
				}
			}
			if !slices.ContainsFunc(strings.SplitAfter(text, "\n"), func(line string) bool {
				for _, part := range want {
					if !strings.Contains("\n"+line, part) {
						return false
					}
				}
				return strings.HasPrefix(line, m[1]+"{") || strings.HasPrefix(line, m[1]+" ")
			}) {
				t.Errorf("%s asks for %s, which nodes do not tell", where, m[0])
			}
		}
	}
}

func TestAlertRulesAreSound(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command(prometheusTool(t, "promtool"), "check", "rules", rulesFile).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}

// prometheus is a running server.
type prometheus struct {
	url string
	log *os.File
}

// startPrometheus starts one that scrapes the targets twice a second and knows the alerts, which do
// not wait until they have lasted.
func startPrometheus(t *testing.T, targets ...string) *prometheus {
	t.Helper()
	program, dir := prometheusTool(t, "prometheus"), t.TempDir()
	rules := regexp.MustCompile(`\n\s+for: \w+`).ReplaceAllString(read(t, rulesFile), "")
	must(t, os.WriteFile(filepath.Join(dir, "alerts.yml"), []byte(rules), 0o600))
	config := fmt.Sprintf(`global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: snakes
    metrics_path: /-/metrics
    static_configs: [{targets: ["%s"]}]
`, strings.Join(targets, `", "`))
	must(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := free.Addr().String()
	must(t, free.Close())
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	cmd := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--web.listen-address="+address,
		"--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	p := &prometheus{url: "http://" + address, log: log}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has nothing that anybody needs
		_ = cmd.Wait()         // the error says that it was killed
		if t.Failed() {
			t.Logf("prometheus:\n%s", read(t, log.Name()))
		}
		_ = log.Close() // only read from now on
	})
	cluster.Await(t, 30*time.Second, "Prometheus to answer", func() error { _, err := p.firing(); return err })
	return p
}

// firing returns the alerts that fire, each as "alertname instance".
func (p *prometheus) firing() ([]string, error) {
	response, err := http.Get(p.url + "/api/v1/alerts")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status string
		Data   struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		return nil, fmt.Errorf("got %.200q: %w", body, err)
	}
	var firing []string
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" {
			firing = append(firing, a.Labels["alertname"]+" "+a.Labels["instance"])
		}
	}
	return firing, nil
}

// await waits until the alert fires for a node, of which addr is the address.
func (p *prometheus) await(t *testing.T, alert, addr string) {
	t.Helper()
	cluster.Await(t, 60*time.Second, alert+" to fire for "+addr, func() error {
		firing, err := p.firing()
		if err == nil && !slices.Contains(firing, alert+" "+addr) {
			err = fmt.Errorf("firing: %q", firing)
		}
		return err
	})
}

// sick is what a node would tell whose clock is wrong, whose disk is slow and full, that cannot
// fetch what it missed, and has other records than others: what a test cannot bring about.
const sick = `snakes_clock_agrees 0
snakes_disk_full 1
snakes_digest_mismatches_total %[1]d
snakes_sync_pulls_total{result="failed"} %[1]d
snakes_journal_sync_duration_seconds_bucket{le="0.5"} 0
snakes_journal_sync_duration_seconds_bucket{le="1"} %[1]d
snakes_journal_sync_duration_seconds_bucket{le="+Inf"} %[1]d
`

// TestEachAlertFires: three nodes are well, and nothing fires; then their files are damaged, a disk
// fails, and one is killed.
func TestEachAlertFires(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	damaged, latched, killed := c.Node(0), c.Node(1), c.Node(2)
	var scraped atomic.Int64
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n := scraped.Add(1); n > 0 { // it is well until told otherwise
			fmt.Fprintf(w, sick, 10*n)
		}
	}))
	t.Cleanup(fake.Close)
	scraped.Store(-1 << 40)
	ill := strings.TrimPrefix(fake.URL, "http://")
	p := startPrometheus(t, damaged.Addr(), latched.Addr(), killed.Addr(), ill)
	large := strings.Repeat("v", 1<<20) // too large for a node to keep it in memory
	must(t, damaged.Put("damaged", large).Expect(201))
	must(t, damaged.Put("latched", "value").Expect(201))
	files := map[string]string{"damaged": fileOf(t, damaged, "damaged"), "latched": fileOf(t, latched, "latched")}
	before := scraped.Load()
	cluster.Await(t, 30*time.Second, "Prometheus to have looked often", func() error {
		if scraped.Load() < before+6 {
			return errors.New("not yet")
		}
		return nil
	})
	if firing, err := p.firing(); err != nil || len(firing) > 0 {
		t.Errorf("while all are well: got %q, %v, want no alert", firing, err)
	}

	scraped.Store(0)
	content := []byte(read(t, files["damaged"]))
	content[len(content)-1] ^= 1
	must(t, os.WriteFile(files["damaged"], content, 0o600))
	must(t, damaged.Do(http.MethodGet, "/damaged?r=one", "").Expect(200, large)) // the journal has it
	p.await(t, "SnakesDamagedRecords", damaged.Addr())

	must(t, os.Remove(files["latched"]))
	must(t, os.Mkdir(files["latched"], 0o700)) // cannot be written
	must(t, damaged.Put("latched", "other").Expect(201))
	p.await(t, "SnakesDiskFailed", latched.Addr())
	p.await(t, "SnakesNotReady", latched.Addr())
	p.await(t, "SnakesNoWrites", latched.Addr())

	killed.Kill()
	p.await(t, "SnakesNodeDown", killed.Addr())
	p.await(t, "SnakesMemberOut", damaged.Addr())
	damaged.Put("damaged", "lost to the others") // 503: two of three cannot take it
	damaged.Delete("latched")
	p.await(t, "SnakesQuorumMissed", damaged.Addr())
	p.await(t, "SnakesBehind", damaged.Addr())
	p.await(t, "SnakesTombstonesWait", damaged.Addr())

	for _, alert := range []string{"SnakesClockOff", "SnakesDiskFull", "SnakesDigestMismatch", "SnakesPullsFail", "SnakesSlowDisk"} {
		p.await(t, alert, ill)
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(read(t, rulesFile), -1) {
		if !strings.Contains(read(t, "prometheus_test.go"), `"`+m[1]+`"`) {
			t.Errorf("nothing here makes %s fire", m[1])
		}
	}
}

// fileOf returns the file of a key, once it is there and nothing waits to be written.
func fileOf(t *testing.T, n *cluster.Node, key string) (file string) {
	t.Helper()
	cluster.Await(t, 20*time.Second, "the file of "+key, func() error {
		found, err := filepath.Glob(filepath.Join(n.Data, "keys", "*", key))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("found %q, %v", found, err)
		}
		file = found[0]
		if !strings.Contains(n.Do(http.MethodGet, "/-/metrics", "").Body, "\nsnakes_unfiled_records 0\n") {
			return errors.New("records wait to be written to files")
		}
		return nil
	})
	return file
}
