package metrics

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// ContentType is that of what Write writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Metrics are those of one node. Safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	syncs    prometheus.Histogram
	peers    peers
}

// New returns metrics of the process and of a node of the given release.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "snakes_journal_sync_duration_seconds", Help: "How long syncs of the journal took, for which writers waited.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "snakes_build_info", Help: "1, with the release and the version of Go that it was built with.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(
		// What is alive after a collection is what a node's keys take.
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile("^/gc/heap/live:bytes$")})),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build, m.syncs, &m.peers,
	)
	return m
}

// Synced enters how long a sync of the journal took: disk.Config.Synced.
func (m *Metrics) Synced(took time.Duration) { m.syncs.Observe(took.Seconds()) }

// Write writes all metrics in the Prometheus text format. It writes nothing if it returns an error
// that is not w's.
func (m *Metrics) Write(w io.Writer) error {
	families, err := m.registry.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	var text bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			return fmt.Errorf("write metrics: %w", err)
		}
	}
	_, err = text.WriteTo(w)
	return err
}

// waits are buckets in seconds for what somebody waits for.
var waits = [...]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
