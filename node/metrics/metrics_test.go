package metrics_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/membership/transport"
	"github.com/protocol7/snakes/node/metrics"
	"github.com/protocol7/snakes/replication"
)

// The nodes of these tests.
const (
	idA = "0000000000000000000000000000000a"
	idB = "0000000000000000000000000000000b"
	idC = "0000000c00000000000000000000000c"
)

// fake is all that a node is made of.
type fake struct {
	ready    bool
	snapshot membership.Snapshot
	members  membership.Stats
	port     transport.Stats
	requests replication.CoordinatorStats
	refusal  error
	peers    map[string]replication.PeerStatus
	skew     error
	sync     replication.SyncStats
	progress replication.SyncProgress
	collect  replication.CollectorStats
	mend     replication.MenderStats
	keys     int
	disk     disk.Stats

	metrics *metrics.Metrics
	http    *metrics.HTTP
}

// The parts of a fake, each as its source.
type (
	fakeMembers     fake
	fakePort        fake
	fakeCoordinator fake
	fakeMonitor     fake
	fakeSyncer      fake
	fakeCollector   fake
	fakeMender      fake
	fakeStore       fake
)

func (f *fakeMembers) Snapshot() *membership.Snapshot          { return &f.snapshot }
func (f *fakeMembers) Stats() membership.Stats                 { return f.members }
func (f *fakePort) Stats() transport.Stats                     { return f.port }
func (f *fakeCoordinator) Stats() replication.CoordinatorStats { return f.requests }
func (f *fakeCoordinator) Writable() error                     { return f.refusal }
func (f *fakeMonitor) Skew() error                             { return f.skew }
func (f *fakeSyncer) Stats() replication.SyncStats             { return f.sync }
func (f *fakeSyncer) Progress() replication.SyncProgress       { return f.progress }
func (f *fakeCollector) Stats() replication.CollectorStats     { return f.collect }
func (f *fakeMender) Stats() replication.MenderStats           { return f.mend }
func (f *fakeStore) Len() int                                  { return f.keys }
func (f *fakeStore) Stats() disk.Stats                         { return f.disk }
func (f *fakeMonitor) Peer(id string) (replication.PeerStatus, bool) {
	status, known := f.peers[id]
	return status, known
}

// newFake is node a, which is well and has members b and c, of which c has not answered yet.
func newFake() *fake {
	f := &fake{
		ready: true,
		snapshot: membership.Snapshot{
			Cluster: "snakes", ClusterID: "1", Self: idA, Rosters: [][]string{{idA, idB, idC}},
			Members: []membership.Member{
				{ID: idA, Name: "a", State: membership.Alive, Enrolled: true, Counted: true, Live: true, Synced: true},
				{ID: idB, Name: "b", State: membership.Alive, Enrolled: true, Counted: true, Live: true, Synced: true},
				{ID: idC, Name: "c", State: membership.Alive, Enrolled: true, Counted: true, Live: true, Synced: true},
			},
		},
		peers:   map[string]replication.PeerStatus{idB: {SkewKnown: true}},
		metrics: metrics.New("1.2.3"),
	}
	f.http = f.metrics.HTTP([]string{"/{key}", "/", "/-/members", "/-/members/{member}", "/-/peer/write"})
	f.metrics.Watch(metrics.Sources{
		ID: idA, Name: "a", Cluster: "snakes", Ready: func() bool { return f.ready },
		Members: (*fakeMembers)(f), Port: (*fakePort)(f), Coordinator: (*fakeCoordinator)(f), Monitor: (*fakeMonitor)(f),
		Syncer: (*fakeSyncer)(f), Collector: (*fakeCollector)(f), Mender: (*fakeMender)(f), Store: (*fakeStore)(f),
	})
	return f
}

// text returns what Prometheus would get.
func (f *fake) text(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := f.metrics.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// member returns one of those that the node knows, to be changed.
func (f *fake) member(id string) *membership.Member {
	for i := range f.snapshot.Members {
		if f.snapshot.Members[i].ID == id {
			return &f.snapshot.Members[i]
		}
	}
	return nil
}

// causes are what moves metrics: each line is there after its cause and was not before.
var causes = []struct {
	cause string
	make  func(f *fake)
	lines string
}{
	{"a request is answered", func(f *fake) { f.http.Observe("PUT", "/foo", 201, 3*time.Millisecond) }, `
snakes_http_requests_total{code="201",method="PUT",path="/{key}"} 1
snakes_http_request_duration_seconds_bucket{method="PUT",path="/{key}",le="0.005"} 1
snakes_http_request_duration_seconds_sum{method="PUT",path="/{key}"} 0.003`},
	{"a member answers a request", func(f *fake) { f.metrics.Asked(idB, "write", 2*time.Millisecond, nil) }, `
snakes_peer_request_duration_seconds_sum{op="write",peer="b"} 0.002
snakes_peer_request_failures_total{op="write",peer="b"} 0`},
	{"a member does not answer one", func(f *fake) { f.metrics.Asked(idB, "write", time.Second, errors.New("refused")) }, `
snakes_peer_request_duration_seconds_count{op="write",peer="b"} 1
snakes_peer_request_failures_total{op="write",peer="b"} 1`},
	{"the journal is synced", func(f *fake) { f.metrics.Synced(4 * time.Millisecond) }, `
snakes_journal_sync_duration_seconds_bucket{le="0.005"} 1
snakes_journal_sync_duration_seconds_sum 0.004`},
	{"a check of readiness fails", func(f *fake) { f.ready = false }, `snakes_node_ready 0`},
	{"this node has to catch up", func(f *fake) { f.member(idA).Synced = false }, `snakes_node_synced 0`},
	{"too few members are live for a PUT", func(f *fake) { f.refusal = errors.New("few") }, `snakes_node_writable 0`},
	{"this node's clock is wrong", func(f *fake) { f.skew = errors.New("behind") }, `snakes_clock_agrees 0`},
	{"a member fails", func(f *fake) { m := f.member(idC); m.State, m.Live = membership.Failed, false }, `
snakes_members{state="alive"} 2
snakes_members{state="failed"} 1
snakes_peer_live{peer="c"} 0`},
	{"a member is forgotten", func(f *fake) {
		f.snapshot.Members, f.snapshot.Rosters = f.snapshot.Members[:1], [][]string{{idA}}
		f.members.RosterChanges = 2
	}, `
snakes_members_known 1
snakes_members_quorum 1
snakes_roster_changes_total 2`},
	{"a member answers an exchange", func(f *fake) {
		f.peers[idB] = replication.PeerStatus{
			At: time.Unix(1700000000, 0), RTT: time.Millisecond, Skew: -2 * time.Second, SkewKnown: true, Behind: 7,
		}
	}, `
snakes_peer_behind_writes{peer="b"} 7
snakes_peer_round_trip_seconds{peer="b"} 0.001
snakes_peer_clock_skew_seconds{peer="b"} -2
snakes_peer_last_exchange_timestamp_seconds{peer="b"} 1.7e+09`},
	{"requests for keys end", func(f *fake) {
		f.requests = replication.CoordinatorStats{
			Puts:    replication.Outcomes{OK: 1, TooFew: 2, Unknown: 3, Abandoned: 4},
			Deletes: replication.Outcomes{OK: 5, TooFew: 6, Unknown: 7, Abandoned: 8},
			Gets:    replication.Outcomes{OK: 9, TooFew: 10, Abandoned: 11},
			Lists:   replication.Outcomes{OK: 12, TooFew: 13, Abandoned: 14},
		}
	}, `
snakes_quorum_requests_total{op="put",outcome="ok"} 1
snakes_quorum_requests_total{op="put",outcome="too_few"} 2
snakes_quorum_requests_total{op="put",outcome="unknown"} 3
snakes_quorum_requests_total{op="put",outcome="abandoned"} 4
snakes_quorum_requests_total{op="delete",outcome="ok"} 5
snakes_quorum_requests_total{op="delete",outcome="too_few"} 6
snakes_quorum_requests_total{op="delete",outcome="unknown"} 7
snakes_quorum_requests_total{op="delete",outcome="abandoned"} 8
snakes_quorum_requests_total{op="get",outcome="ok"} 9
snakes_quorum_requests_total{op="get",outcome="too_few"} 10
snakes_quorum_requests_total{op="get",outcome="abandoned"} 11
snakes_quorum_requests_total{op="list",outcome="ok"} 12
snakes_quorum_requests_total{op="list",outcome="too_few"} 13
snakes_quorum_requests_total{op="list",outcome="abandoned"} 14`},
	{"this node catches up", func(f *fake) {
		f.sync = replication.SyncStats{
			Complete: 1, Incomplete: 2, Failed: 3, Records: 4, Bytes: 5, LastComplete: time.Unix(1700000000, 0),
		}
		f.progress = replication.SyncProgress{Offered: 10, Pulled: 4}
	}, `
snakes_sync_pulls_total{result="complete"} 1
snakes_sync_pulls_total{result="incomplete"} 2
snakes_sync_pulls_total{result="failed"} 3
snakes_sync_records_total 4
snakes_sync_received_bytes_total 5
snakes_sync_last_success_timestamp_seconds 1.7e+09
snakes_sync_pending_keys 6`},
	{"keys are deleted while a member is away", func(f *fake) {
		f.collect = replication.CollectorStats{Tombstones: 9, Collected: 5, Blocked: map[string]uint64{idC: 8}}
	}, `
snakes_tombstones 9
snakes_tombstones_collected_total 5
snakes_tombstones_waiting{peer="c"} 8`},
	{"digests differ", func(f *fake) { f.mend = replication.MenderStats{Mismatches: 1, Mended: 2, Unexplained: 3} }, `
snakes_digest_mismatches_total 1
snakes_digest_mended_records_total 2
snakes_digest_unexplained_records_total 3`},
	{"keys are written", func(f *fake) {
		f.keys = 3
		f.disk = disk.Stats{
			JournalBytes: 4096, JournalSegments: 2, Unfiled: 5, UnfiledBytes: 600, Checkpoints: 7,
			LastCheckpoint: time.Unix(1700000000, 0),
		}
	}, `
snakes_keys 3
snakes_journal_bytes 4096
snakes_journal_segments 2
snakes_unfiled_records 5
snakes_unfiled_bytes 600
snakes_checkpoints_total 7
snakes_checkpoint_last_timestamp_seconds 1.7e+09`},
	{"the disk is full, and fails", func(f *fake) { f.disk = disk.Stats{Latched: true, Full: true, NoRoom: 4} }, `
snakes_disk_latched 1
snakes_disk_full 1
snakes_disk_no_room_total 4`},
	{"files are damaged", func(f *fake) { f.disk = disk.Stats{Damaged: 1, DamageFound: 3, DamageMended: 2} }, `
snakes_damaged_records 1
snakes_damaged_records_found_total 3
snakes_damaged_records_mended_total 2`},
	{"others connect", func(f *fake) {
		f.port = transport.Stats{
			Streams: 1, Requests: 2, Silent: 3, Unknown: 4, Crowded: 5, AcceptErrors: 6, Packets: 7, PacketsDropped: 8,
		}
	}, `
snakes_port_connections_total{kind="gossip"} 1
snakes_port_connections_total{kind="requests"} 2
snakes_port_connections_total{kind="silent"} 3
snakes_port_connections_total{kind="unknown"} 4
snakes_port_connections_total{kind="crowded"} 5
snakes_port_accept_errors_total 6
snakes_port_packets_total{kind="gossip"} 7
snakes_port_packets_total{kind="dropped"} 8`},
	{"nodes gossip", func(f *fake) {
		f.members.Gossip = map[string]membership.Measure{
			"msg.alive": {Count: 2, Sum: 2, Last: 1}, "msg.suspect": {Count: 3, Sum: 3, Last: 1}, "msg.dead": {Count: 4, Sum: 4, Last: 1},
			"udp.sent": {Count: 2, Sum: 500, Last: 300}, "tcp.sent": {Count: 1, Sum: 600, Last: 600},
			"tcp.accept": {Count: 7, Sum: 7}, "tcp.connect": {Count: 8, Sum: 8},
			"degraded.probe": {Count: 9, Sum: 9}, "degraded.timeout": {Count: 10, Sum: 10},
			"node.instances.alive": {Count: 4, Sum: 9, Last: 3}, "health.score": {Count: 2, Sum: 3, Last: 2},
			"queue.broadcasts": {Count: 2, Sum: 9, Last: 5}, "probeNode": {Count: 2, Sum: 0.5, Last: 0.25},
		}
	}, `
snakes_memberlist_messages_total{kind="alive"} 2
snakes_memberlist_messages_total{kind="suspect"} 3
snakes_memberlist_messages_total{kind="dead"} 4
snakes_memberlist_sent_bytes_total{protocol="udp"} 500
snakes_memberlist_sent_bytes_total{protocol="tcp"} 600
snakes_memberlist_streams_total{side="accepted"} 7
snakes_memberlist_streams_total{side="opened"} 8
snakes_memberlist_degraded_total{what="probe"} 9
snakes_memberlist_degraded_total{what="suspicion"} 10
snakes_memberlist_nodes{state="alive"} 3
snakes_memberlist_health_score 2
snakes_memberlist_queued_broadcasts 5
snakes_memberlist_duration_seconds_sum{what="probe"} 0.5
snakes_memberlist_duration_seconds_count{what="probe"} 2`},
}

func TestEachCauseMovesItsMetrics(t *testing.T) {
	for _, c := range causes {
		t.Run(c.cause, func(t *testing.T) {
			f := newFake()
			before := "\n" + f.text(t)
			c.make(f)
			after := "\n" + f.text(t)
			for line := range strings.SplitSeq(strings.TrimSpace(c.lines), "\n") {
				if strings.Contains(before, "\n"+line+"\n") {
					t.Errorf("%s: is there before", line)
				}
				if !strings.Contains(after, "\n"+line+"\n") {
					name, _, _ := strings.Cut(line, " ")
					name, _, _ = strings.Cut(name, "{")
					t.Errorf("%s: is not there; got:\n%s", line, linesWith(after, "\n"+name))
				}
			}
		})
	}
}

func linesWith(text, what string) string {
	var found strings.Builder
	for line := range strings.SplitSeq(text, "\n") {
		if strings.Contains("\n"+line, what) {
			found.WriteString(line + "\n")
		}
	}
	return found.String()
}

// TestEachMetricHasACause: whoever adds a metric adds what moves it.
func TestEachMetricHasACause(t *testing.T) {
	var all strings.Builder
	for _, c := range causes {
		all.WriteString("\n" + strings.TrimSpace(c.lines))
	}
	f := newFake()
	f.http.Observe("GET", "/foo", 200, 0)
	f.metrics.Asked(idB, "write", 0, nil)
	still := map[string]bool{"snakes_build_info": true, "snakes_node_info": true}
	for line := range strings.SplitSeq(f.text(t), "\n") {
		name, isType := strings.CutPrefix(line, "# TYPE snakes_")
		if !isType {
			continue
		}
		name = "snakes_" + strings.Fields(name)[0]
		if !still[name] && !strings.Contains(all.String(), "\n"+name+"{") && !strings.Contains(all.String(), "\n"+name+" ") &&
			!strings.Contains(all.String(), "\n"+name+"_sum") {
			t.Errorf("nothing here moves %s", name)
		}
	}
}

func TestMetricsFollowTheRulesOfPrometheus(t *testing.T) {
	f := newFake()
	for _, c := range causes {
		c.make(f)
	}
	problems, err := promlint.New(strings.NewReader(f.text(t))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for line := range strings.SplitSeq(f.text(t), "\n") {
		if name, found := strings.CutPrefix(line, "# TYPE "); found &&
			!strings.HasPrefix(name, "snakes_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("got %s, want a name that begins with snakes_, go_ or process_", name)
		}
	}
	for _, want := range []string{"\ngo_gc_heap_live_bytes ", "\nsnakes_build_info{goversion=\"go1.", `version="1.2.3"} 1`, "\nprocess_start_time_seconds "} {
		if !strings.Contains(f.text(t), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func TestNoKeyAndNothingElseWithoutBoundsIsALabel(t *testing.T) {
	f := newFake()
	for _, path := range []string{"/secret1", "/-/members/secret2", "/a/secret3", "secret4", "", "*", "/-/secret5", "/-/secret6/x"} {
		f.http.Observe("GET", path, 200, 0)
	}
	f.http.Observe("SECRET7", "/foo", 200, 0)
	for _, status := range []int{0, 299, 678, -1, 1 << 40} {
		f.http.Observe("PUT", "/foo", status, 0)
	}
	text := f.text(t)
	if strings.Contains(strings.ToLower(text), "secret") {
		t.Errorf("got a label that a client chose:\n%s", linesWith(strings.ToLower(text), "secret"))
	}
	for _, want := range []string{
		`{code="200",method="GET",path="/{key}"} 1`, `{code="200",method="GET",path="/-/members/{member}"} 1`,
		`{code="200",method="GET",path="other"} 6`, `{code="200",method="other",path="/{key}"} 1`,
		`{code="other",method="PUT",path="/{key}"} 5`,
	} {
		if !strings.Contains(text, "snakes_http_requests_total"+want) {
			t.Errorf("%s is missing; got:\n%s", want, linesWith(text, "snakes_http_requests_total{"))
		}
	}
}

func TestWhatIsMeasuredOfAMemberGoesWithIt(t *testing.T) {
	f := newFake()
	f.metrics.Asked(idC, "write", 0, nil)
	f.peers[idC] = replication.PeerStatus{SkewKnown: true}
	if text := f.text(t); strings.Count(text, `peer="c"`) < 8 {
		t.Errorf("got %d lines of c, want some", strings.Count(text, `peer="c"`))
	}
	f.snapshot.Members = f.snapshot.Members[:2]
	if text := f.text(t); strings.Contains(text, `peer="c"`) {
		t.Errorf("of a member that is gone there is:\n%s", linesWith(text, `peer="c"`))
	}
}

func TestMembersWithOneNameAreToldApart(t *testing.T) {
	f := newFake()
	f.member(idC).Name = "b"
	f.metrics.Asked(idB, "write", 0, nil)
	f.metrics.Asked(idC, "write", 0, nil)
	text := f.text(t)
	for _, want := range []string{
		`snakes_peer_live{peer="b/00000000"} 1`, `snakes_peer_live{peer="b/0000000c"} 1`,
		`snakes_peer_request_failures_total{op="write",peer="b/0000000c"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing; got:\n%s", want, linesWith(text, "peer="))
		}
	}
}

func TestMeasuringRequestsTakesNoMemory(t *testing.T) {
	f := newFake()
	err := errors.New("refused")
	for name, work := range map[string]func(){
		"of a client":     func() { f.http.Observe("PUT", "/foo", 201, time.Millisecond) },
		"of another node": func() { f.http.Observe("POST", "/-/peer/write", 200, time.Millisecond) },
		"to another node": func() { f.metrics.Asked(idB, "write", time.Millisecond, err) },
		"sync":            func() { f.metrics.Synced(time.Millisecond) },
	} {
		if got := testing.AllocsPerRun(100, work); got != 0 {
			t.Errorf("%s: got %v allocations, want none", name, got)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	f := newFake()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f.http.Observe("PUT", "/foo", 201, time.Millisecond)
		}
	})
}
