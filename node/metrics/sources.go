package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/membership/transport"
	"github.com/protocol7/snakes/replication"
)

// Sources are the parts of a node that are asked at each scrape. All are needed, must be safe for
// concurrent use and must not block.
type Sources struct {
	// ID, Name and Cluster are the node id, the node's name and the cluster's.
	ID, Name, Cluster string
	// Ready reports whether GET /-/ready says so.
	Ready   func() bool
	Members interface {
		Snapshot() *membership.Snapshot
		Stats() membership.Stats
	}
	Port interface{ Stats() transport.Stats }
	// Coordinator serves requests for keys; Writable returns nil if a plain PUT would pass.
	Coordinator interface {
		Stats() replication.CoordinatorStats
		Writable() error
	}
	// Monitor knows of the others; Skew returns nil if this node's clock agrees with theirs.
	Monitor interface {
		Peer(id string) (replication.PeerStatus, bool)
		Skew() error
	}
	Syncer interface {
		Stats() replication.SyncStats
		Progress() replication.SyncProgress
	}
	Collector interface {
		Stats() replication.CollectorStats
	}
	Mender interface {
		Stats() replication.MenderStats
	}
	Store interface {
		Len() int
		Stats() disk.Stats
	}
}

// Watch adds all that can be read from s when it is asked for. It is called once.
func (m *Metrics) Watch(s Sources) {
	members := s.Members.Snapshot
	m.peers.members.Store(&members)
	m.registry.MustRegister(s)
}

// metric is one that is read from a source.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("snakes_"+name, help, labels, nil), prometheus.GaugeValue}
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("snakes_"+name, help, labels, nil), prometheus.CounterValue}
}

var (
	nodeInfo     = gauge("node_info", "1, with what the node is called.", "id", "name", "cluster")
	nodeReady    = gauge("node_ready", "1 if the node is ready, as GET /-/ready says.")
	nodeSynced   = gauge("node_synced", "1 if the node has all that it should have.")
	nodeWritable = gauge("node_writable", "1 if a PUT at the default level would pass.")
	clockAgrees  = gauge("clock_agrees", "1 if the wall clock is near the median of the other members' clocks.")

	members       = gauge("members", "Members by state, as this node sees them.", "state")
	membersKnown  = gauge("members_known", "N, the number of members that should exist.")
	membersQuorum = gauge("members_quorum", "The majority of N.")
	rosterChanges = counter("roster_changes_total", "How often the members that should exist became others.")

	peerLive         = gauge("peer_live", "1 if requests are sent to the member, 0 while it is left out.", "peer")
	peerBehind       = gauge("peer_behind_writes", "Writes known here that the member is not known to have.", "peer")
	peerRoundTrip    = gauge("peer_round_trip_seconds", "How long the last exchange with the member took.", "peer")
	peerSkew         = gauge("peer_clock_skew_seconds", "How far the member's wall clock is ahead of this node's.", "peer")
	peerLastExchange = gauge("peer_last_exchange_timestamp_seconds", "When the member last answered an exchange.", "peer")

	quorumRequests = counter("quorum_requests_total",
		"Requests for keys by how they ended: ok; too_few nodes and nothing written; unknown what was written; abandoned by the client.",
		"op", "outcome")

	syncPulls       = counter("sync_pulls_total", "Pulls of what was missed, by how they ended.", "result")
	syncRecords     = counter("sync_records_total", "Records that were pulled.")
	syncBytes       = counter("sync_received_bytes_total", "Keys and values that were pulled.")
	syncLastSuccess = gauge("sync_last_success_timestamp_seconds", "When a pull was last completed; 0 if none was.")
	syncPending     = gauge("sync_pending_keys", "Keys that the pull under way has yet to bring.")

	keys            = gauge("keys", "Live keys on this node.")
	tombstones      = gauge("tombstones", "Deleted keys of which the mark is still kept.")
	tombstonesWait  = gauge("tombstones_waiting", "Marks of deleted keys that are kept for the member, or for this node's own clock.", "peer")
	tombstonesGone  = counter("tombstones_collected_total", "Marks of deleted keys that were dropped.")
	mismatches      = counter("digest_mismatches_total", "How often a member was found that has seen the same and has other records.")
	mismatchMended  = counter("digest_mended_records_total", "Records that were fetched since they had been lost or damaged here.")
	mismatchStrange = counter("digest_unexplained_records_total", "Records of others that are missing here without a trace, and are not copied.")

	journalBytes    = gauge("journal_bytes", "Length of the journal.")
	journalSegments = gauge("journal_segments", "Files of the journal.")
	unfiled         = gauge("unfiled_records", "Records that are in the journal and not in their files yet.")
	unfiledBytes    = gauge("unfiled_bytes", "Values that are in the journal and not in their files yet.")
	checkpoints     = counter("checkpoints_total", "Checkpoints that were completed.")
	lastCheckpoint  = gauge("checkpoint_last_timestamp_seconds", "When a checkpoint was last completed; 0 if none was.")
	diskLatched     = gauge("disk_latched", "1 if the disk failed, so that nothing is written until restart.")
	diskFull        = gauge("disk_full", "1 if the disk had no room for the last value.")
	diskNoRoom      = counter("disk_no_room_total", "How often the disk had no room for something.")
	damaged         = gauge("damaged_records", "Records that cannot be read.")
	damageFound     = counter("damaged_records_found_total", "Damaged records that were found.")
	damageMended    = counter("damaged_records_mended_total", "Damaged records that were replaced.")

	connections  = counter("port_connections_total", "Connections to the port, by what they were.", "kind")
	acceptErrors = counter("port_accept_errors_total", "Connections that could not be accepted.")
	packets      = counter("port_packets_total", "Packets to the port: gossip, or dropped.", "kind")
)

// Describe implements prometheus.Collector. What there is changes with the members.
func (s Sources) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s Sources) Collect(ch chan<- prometheus.Metric) {
	to := target(ch)
	snapshot := s.Members.Snapshot()
	s.node(to, snapshot)
	s.others(to, snapshot)
	s.requests(to)
	s.catchUp(to)
	s.disk(to)
	s.port(to)
	gossip(to, s.Members.Stats().Gossip)
}

// target takes what is read from sources.
type target chan<- prometheus.Metric

func (t target) set(m metric, value float64, labels ...string) {
	t <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
}

func (t target) count(m metric, value uint64, labels ...string) { t.set(m, float64(value), labels...) }

func (t target) claim(m metric, holds bool, labels ...string) {
	value := 0.0
	if holds {
		value = 1
	}
	t.set(m, value, labels...)
}

// time sets a metric to seconds since 1970, 0 for the zero time.
func (t target) time(m metric, at time.Time, labels ...string) {
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	t.set(m, float64(at.UnixNano())/1e9, labels...)
}

func (s Sources) node(to target, snapshot *membership.Snapshot) {
	self, _ := snapshot.Member(s.ID)
	to.set(nodeInfo, 1, s.ID, s.Name, s.Cluster)
	to.claim(nodeReady, s.Ready())
	to.claim(nodeSynced, self.Synced)
	to.claim(nodeWritable, s.Coordinator.Writable() == nil)
	to.claim(clockAgrees, s.Monitor.Skew() == nil)
	to.set(membersKnown, float64(snapshot.Known()))
	to.set(membersQuorum, float64(replication.Majority(snapshot.Known())))
	states := make(map[membership.State]int)
	for _, m := range snapshot.Members {
		states[m.State]++
	}
	for _, state := range []membership.State{
		membership.Joining, membership.Syncing, membership.Alive, membership.Suspect, membership.Failed, membership.Stopped, membership.Draining,
	} {
		to.set(members, float64(states[state]), string(state))
	}
	to.count(rosterChanges, s.Members.Stats().RosterChanges)
}

func (s Sources) others(to target, snapshot *membership.Snapshot) {
	labels := labelsOf(snapshot)
	for _, m := range snapshot.Members {
		if m.ID == s.ID {
			continue
		}
		label := labels[m.ID]
		to.claim(peerLive, m.Live, label)
		status, known := s.Monitor.Peer(m.ID)
		if !known {
			continue // that it has not answered yet is no zero
		}
		to.count(peerBehind, status.Behind, label)
		to.set(peerRoundTrip, status.RTT.Seconds(), label)
		to.time(peerLastExchange, status.At, label)
		if status.SkewKnown {
			to.set(peerSkew, status.Skew.Seconds(), label)
		}
	}
	stats := s.Collector.Stats()
	for id, label := range labels {
		to.count(tombstonesWait, stats.Blocked[id], label)
	}
	to.count(tombstones, stats.Tombstones)
	to.count(tombstonesGone, stats.Collected)
}

func (s Sources) requests(to target) {
	stats := s.Coordinator.Stats()
	for op, o := range map[string]replication.Outcomes{
		"put": stats.Puts, "delete": stats.Deletes, "get": stats.Gets, "list": stats.Lists,
	} {
		to.count(quorumRequests, o.OK, op, "ok")
		to.count(quorumRequests, o.TooFew, op, "too_few")
		to.count(quorumRequests, o.Abandoned, op, "abandoned")
		if op == "put" || op == "delete" {
			to.count(quorumRequests, o.Unknown, op, "unknown")
		}
	}
}

func (s Sources) catchUp(to target) {
	sync, progress, mender := s.Syncer.Stats(), s.Syncer.Progress(), s.Mender.Stats()
	to.count(syncPulls, sync.Complete, "complete")
	to.count(syncPulls, sync.Incomplete, "incomplete")
	to.count(syncPulls, sync.Failed, "failed")
	to.count(syncRecords, sync.Records)
	to.count(syncBytes, sync.Bytes)
	to.time(syncLastSuccess, sync.LastComplete)
	to.count(syncPending, progress.Offered-min(progress.Pulled, progress.Offered))
	to.count(mismatches, mender.Mismatches)
	to.count(mismatchMended, mender.Mended)
	to.count(mismatchStrange, mender.Unexplained)
}

func (s Sources) disk(to target) {
	stats := s.Store.Stats()
	to.set(keys, float64(s.Store.Len()))
	to.set(journalBytes, float64(stats.JournalBytes))
	to.set(journalSegments, float64(stats.JournalSegments))
	to.set(unfiled, float64(stats.Unfiled))
	to.set(unfiledBytes, float64(stats.UnfiledBytes))
	to.count(checkpoints, stats.Checkpoints)
	to.time(lastCheckpoint, stats.LastCheckpoint)
	to.claim(diskLatched, stats.Latched)
	to.claim(diskFull, stats.Full)
	to.count(diskNoRoom, stats.NoRoom)
	to.set(damaged, float64(stats.Damaged))
	to.count(damageFound, stats.DamageFound)
	to.count(damageMended, stats.DamageMended)
}

func (s Sources) port(to target) {
	stats := s.Port.Stats()
	to.count(connections, stats.Streams, "gossip")
	to.count(connections, stats.Requests, "requests")
	to.count(connections, stats.Silent, "silent")
	to.count(connections, stats.Unknown, "unknown")
	to.count(connections, stats.Crowded, "crowded")
	to.count(acceptErrors, stats.AcceptErrors)
	to.count(packets, stats.Packets, "gossip")
	to.count(packets, stats.PacketsDropped, "dropped")
}
