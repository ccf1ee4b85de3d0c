package node

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/node/metrics"
)

// value returns that of a metric with its labels, and whether there is one.
func (r *running) value(t *testing.T, metric string) (float64, bool) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimPrefix(r.ask(t, http.MethodGet, "/-/metrics", ""), "200 "), "\n") {
		if text, found := strings.CutPrefix(line, metric+" "); found {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatalf("%s: %v", metric, err)
			}
			return value, true
		}
	}
	return 0, false
}

// awaitMetrics waits until each metric has the value that it should, or, for "more than 0", one above it.
func (r *running) awaitMetrics(t *testing.T, when string, want map[string]string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for metric, wanted := range want {
		for {
			got, found := r.value(t, metric)
			text := strconv.FormatFloat(got, 'g', -1, 64)
			if found && (text == wanted || wanted == "more than 0" && got > 0) || !found && wanted == "nothing" {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s: %s at %s: got %s (found: %t), want %s", when, metric, r.Name(), text, found, wanted)
				break
			}
			time.Sleep(20 * time.Millisecond) // between two looks
		}
	}
}

func TestMetricsTellWhatHappensToANode(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := run(t, Config{Name: "a", Version: "1.2.3"})
	b := run(t, Config{Name: "b", Data: t.TempDir(), Join: []string{a.Address()}})
	c := run(t, Config{Name: "c", Join: []string{a.Address()}})
	awaitStates(t, "3: alive alive alive", a, b, c)
	a.awaitMetrics(t, "at first", map[string]string{
		`snakes_node_ready`: "1", `snakes_node_synced`: "1", `snakes_node_writable`: "1", `snakes_clock_agrees`: "1",
		`snakes_members{state="alive"}`: "3", `snakes_members_known`: "3", `snakes_peer_live{peer="b"}`: "1",
		`snakes_peer_live{peer="a"}`: "nothing", `snakes_roster_changes_total`: "more than 0",
		`snakes_memberlist_messages_total{kind="alive"}`: "more than 0", `snakes_port_packets_total{kind="gossip"}`: "more than 0",
		`snakes_quorum_requests_total{op="put",outcome="ok"}`: "0", `go_gc_heap_live_bytes`: "more than 0",
	})

	for _, step := range []struct{ method, path, want string }{
		{"PUT", "/foo", "201"}, {"PUT", "/bar", "201"}, {"GET", "/foo", "200 x"}, {"DELETE", "/bar", "204"}, {"GET", "/-/keys", "200 {"},
	} {
		if got := a.ask(t, step.method, step.path, "x"); !strings.HasPrefix(got, step.want) {
			t.Fatalf("%s %s: got %q, want %s", step.method, step.path, got, step.want)
		}
	}
	a.awaitMetrics(t, "after requests", map[string]string{
		`snakes_http_requests_total{code="201",method="PUT",path="/{key}"}`:         "2",
		`snakes_http_request_duration_seconds_count{method="DELETE",path="/{key}"}`: "1",
		`snakes_http_requests_total{code="200",method="GET",path="/-/keys"}`:        "1",
		`snakes_quorum_requests_total{op="put",outcome="ok"}`:                       "2",
		`snakes_quorum_requests_total{op="get",outcome="ok"}`:                       "1",
		`snakes_quorum_requests_total{op="delete",outcome="ok"}`:                    "1",
		`snakes_quorum_requests_total{op="list",outcome="ok"}`:                      "1",
		`snakes_peer_request_duration_seconds_count{op="write",peer="b"}`:           "3",
		`snakes_peer_request_duration_seconds_count{op="exchange",peer="c"}`:        "more than 0",
		`snakes_journal_sync_duration_seconds_count`:                                "more than 0",
		`snakes_journal_bytes`: "more than 0", `snakes_keys`: "1", `snakes_tombstones`: "1", `snakes_peer_round_trip_seconds{peer="b"}`: "more than 0",
	})
	c.awaitMetrics(t, "after requests to another node", map[string]string{
		`snakes_keys`: "1", `snakes_quorum_requests_total{op="put",outcome="ok"}`: "0",
		`snakes_http_requests_total{code="200",method="POST",path="/-/peer/write"}`: "3",
	})

	b.stop(t)()
	awaitStates(t, "3: alive stopped alive", a, c)
	for _, step := range []struct{ method, path, want string }{{"PUT", "/foo?w=all", "503"}, {"PUT", "/new", "201"}, {"DELETE", "/foo", "204"}} {
		if got := a.ask(t, step.method, step.path, "y"); !strings.HasPrefix(got, step.want) {
			t.Fatalf("%s %s: got %q, want %s", step.method, step.path, got, step.want)
		}
	}
	a.awaitMetrics(t, "while b is away", map[string]string{
		`snakes_peer_live{peer="b"}`: "0", `snakes_members{state="stopped"}`: "1", `snakes_members{state="alive"}`: "2",
		`snakes_quorum_requests_total{op="put",outcome="too_few"}`: "1", `snakes_peer_behind_writes{peer="b"}`: "more than 0",
		`snakes_tombstones_waiting{peer="b"}`: "more than 0", `snakes_peer_request_failures_total{op="exchange",peer="b"}`: "more than 0",
	})

	b = run(t, Config{Name: "b", Data: b.cfg.Data, Port: b.port})
	awaitStates(t, "3: alive alive alive", a, b, c)
	b.awaitMetrics(t, "when b is back", map[string]string{
		`snakes_sync_pulls_total{result="complete"}`: "more than 0", `snakes_sync_records_total`: "2",
		`snakes_sync_received_bytes_total`: "more than 0", `snakes_sync_last_success_timestamp_seconds`: "more than 0",
	})
	a.awaitMetrics(t, "when b is back", map[string]string{
		`snakes_peer_live{peer="b"}`: "1", `snakes_peer_behind_writes{peer="b"}`: "0",
	})

	c.stop(t)()
	awaitStates(t, "3: alive alive stopped", a, b)
	if got := a.ask(t, "DELETE", "/-/members/c", ""); got != "204" {
		t.Fatalf("forget: got %q, want 204", got)
	}
	a.awaitMetrics(t, "after c was forgotten", map[string]string{
		`snakes_members_known`: "2", `snakes_peer_live{peer="c"}`: "nothing",
		`snakes_peer_request_duration_seconds_count{op="exchange",peer="c"}`: "nothing",
	})
}

func TestMetricsAreTextAndTakeNoParameters(t *testing.T) {
	config, _ := fakes()
	n := start(t, config)
	a := n.ask("GET", "/-/metrics", "")
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != metrics.ContentType || !strings.Contains(a.text, "# TYPE snakes_http_requests_total counter") {
		t.Errorf("got %d %s %.100q, want 200 and metrics", a.StatusCode, a.Header.Get("Content-Type"), a.text)
	}
	if a := n.ask("GET", "/-/metrics?x=1", ""); a.StatusCode != 400 {
		t.Errorf("with a parameter: got %d, want 400", a.StatusCode)
	}
	if a := n.ask("PUT", "/metrics", "a key like others"); a.StatusCode == 404 {
		t.Errorf("the key metrics: got %d", a.StatusCode)
	}
}

// TestEachRouteIsCountedUnderItsOwnPath: paths are taken from the routes.
func TestEachRouteIsCountedUnderItsOwnPath(t *testing.T) {
	config, _ := fakes()
	a := newAPI(config)
	if got := len(paths(a.router)); got < 20 {
		t.Fatalf("got %d paths", got)
	}
	for _, path := range paths(a.router) {
		asked := path
		if before, _, variable := strings.Cut(path, "{"); variable {
			asked = before + "something"
		}
		a.requests.Observe(http.MethodGet, asked, 200, 0)
		var text strings.Builder
		if err := a.Metrics.Write(&text); err != nil {
			t.Fatal(err)
		}
		if want := `snakes_http_requests_total{code="200",method="GET",path="` + path + `"}`; !strings.Contains(text.String(), want) {
			t.Errorf("%s is missing after a request for %s", want, asked)
		}
	}
}
