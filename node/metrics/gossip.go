package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/protocol7/snakes/membership"
)

// gossiped is a metric of memberlist, under its own name there.
type gossiped struct {
	name   string
	metric metric
	labels []string
	// value returns what the metric is of what was told; nil: a summary of all that was.
	value func(membership.Measure) float64
}

func sum(m membership.Measure) float64  { return m.Sum }
func last(m membership.Measure) float64 { return m.Last }

var (
	listMessages = counter("memberlist_messages_total", "Messages about members that came by gossip, by what they say.", "kind")
	listBytes    = counter("memberlist_sent_bytes_total", "Gossip that was sent.", "protocol")
	listStreams  = counter("memberlist_streams_total", "Connections for gossip, by who opened them.", "side")
	listDegraded = counter("memberlist_degraded_total", "Probes and suspicions that took longer, since this node itself seems to be slow.", "what")
	listNodes    = gauge("memberlist_nodes", "Nodes by their state in gossip, as of the last full exchange.", "state")
	listHealth   = gauge("memberlist_health_score", "0 if this node takes part in gossip in time; the more, the slower it seems to itself.")
	listQueue    = gauge("memberlist_queued_broadcasts", "Messages that wait to be spread.")
	listDuration = gauge("memberlist_duration_seconds", "How long probes of a member, rounds of gossip and full exchanges took.", "what")
)

// gossips leaves out the sizes of full exchanges, which memberlist reads from the wrong bytes.
var gossips = []gossiped{
	{"msg.alive", listMessages, []string{"alive"}, sum},
	{"msg.suspect", listMessages, []string{"suspect"}, sum},
	{"msg.dead", listMessages, []string{"dead"}, sum},
	{"udp.sent", listBytes, []string{"udp"}, sum},
	{"tcp.sent", listBytes, []string{"tcp"}, sum},
	{"tcp.accept", listStreams, []string{"accepted"}, sum},
	{"tcp.connect", listStreams, []string{"opened"}, sum},
	{"degraded.probe", listDegraded, []string{"probe"}, sum},
	{"degraded.timeout", listDegraded, []string{"suspicion"}, sum},
	{"node.instances.alive", listNodes, []string{"alive"}, last},
	{"node.instances.suspect", listNodes, []string{"suspect"}, last},
	{"node.instances.dead", listNodes, []string{"dead"}, last},
	{"node.instances.left", listNodes, []string{"left"}, last},
	{"health.score", listHealth, nil, last},
	{"queue.broadcasts", listQueue, nil, last},
	{"probeNode", listDuration, []string{"probe"}, nil},
	{"gossip", listDuration, []string{"gossip"}, nil},
	{"pushPullNode", listDuration, []string{"exchange"}, nil},
}

// gossip writes what memberlist has measured. What it has not met is 0.
func gossip(to target, measured map[string]membership.Measure) {
	for _, g := range gossips {
		m := measured[g.name]
		if g.value != nil {
			to.set(g.metric, g.value(m), g.labels...)
			continue
		}
		to <- prometheus.MustNewConstSummary(g.metric.desc, m.Count, m.Sum, nil, g.labels...)
	}
}
