package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/protocol7/snakes/membership"
)

// peers counts and times requests to other nodes. As a collector it names them as the members
// are called when it is asked, and forgets those that are none any more.
type peers struct {
	members atomic.Pointer[func() *membership.Snapshot]
	asked   atomic.Pointer[map[call]*calls] // never changed, but replaced

	mu sync.Mutex // held to replace asked
}

// call is one sort of requests to one node.
type call struct{ id, op string }

type calls struct {
	duration prometheus.Histogram
	failures prometheus.Counter
}

// Asked enters a request to node id that has ended: op is what was asked, one of a few constants.
// err says why there was no answer; an answer that tells of an error is one. Once the same was
// asked before, it takes no lock and no memory.
func (m *Metrics) Asked(id, op string, took time.Duration, err error) {
	of := m.peers.of(call{id, op})
	of.duration.Observe(took.Seconds())
	if err != nil {
		of.failures.Inc()
	}
}

func (p *peers) of(c call) *calls {
	if asked := p.asked.Load(); asked != nil {
		if of := (*asked)[c]; of != nil {
			return of
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.known()
	of := asked[c]
	if of == nil {
		of = &calls{
			duration: prometheus.NewHistogram(prometheus.HistogramOpts{
				Name: "snakes_peer_request_duration_seconds", Help: "How long requests to another member took, answered or not.",
				Buckets: waits[:], ConstLabels: prometheus.Labels{"op": c.op},
			}),
			failures: prometheus.NewCounter(prometheus.CounterOpts{
				Name: "snakes_peer_request_failures_total", Help: "Requests to another member that got no answer.",
				ConstLabels: prometheus.Labels{"op": c.op},
			}),
		}
		asked[c] = of
	}
	p.asked.Store(&asked)
	return of
}

// known returns a copy of asked without those that are no members. The caller holds p.mu.
func (p *peers) known() map[call]*calls {
	known := make(map[call]*calls)
	asked := p.asked.Load()
	if asked == nil {
		return known
	}
	snapshot := p.snapshot()
	for c, of := range *asked {
		if _, member := snapshot.Member(c.id); member {
			known[c] = of
		}
	}
	return known
}

// snapshot returns the members as of now, nobody before Watch.
func (p *peers) snapshot() *membership.Snapshot {
	if members := p.members.Load(); members != nil {
		return (*members)()
	}
	return new(membership.Snapshot)
}

// Describe implements prometheus.Collector. What there is changes with the members.
func (p *peers) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (p *peers) Collect(ch chan<- prometheus.Metric) {
	p.mu.Lock()
	asked := p.known()
	p.asked.Store(&asked)
	p.mu.Unlock()
	labels := labelsOf(p.snapshot())
	for c, of := range asked {
		label, member := labels[c.id]
		if !member {
			continue // since a moment ago
		}
		named := prometheus.Labels{"peer": label}
		prometheus.WrapCollectorWith(named, of.duration).Collect(ch)
		prometheus.WrapCollectorWith(named, of.failures).Collect(ch)
	}
}

// labelsOf returns how the members are called in labels, by their ids: no two the same.
func labelsOf(s *membership.Snapshot) map[string]string {
	named := make(map[string]int)
	for _, m := range s.Members {
		named[m.Name]++
	}
	labels := make(map[string]string, len(s.Members))
	for _, m := range s.Members {
		labels[m.ID] = m.Name
		if named[m.Name] > 1 {
			labels[m.ID] = m.Name + "/" + m.ID[:8] // a name has no slash
		}
	}
	return labels
}
