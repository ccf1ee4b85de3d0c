package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// idZoe is a learner.
const idZoe = "00000000000000000000000000000001"

// threeMembers is a cluster in which B has answered exchanges and C has not, with a learner. A has tombstones, which
// wait for C.
func threeMembers() (apiConfig, *fakeCoordinator) {
	config, coordinator := fakes()
	since := time.Date(2026, 11, 22, 13, 0, 0, 5e8, time.FixedZone("", 3600))
	member := func(id, name, address string, state membership.State, counted, live bool) membership.Member {
		return membership.Member{
			ID: id, Name: name, Address: address, Version: "1.0.0", State: state, Since: since,
			Enrolled: true, Counted: counted, Live: live, Synced: counted,
		}
	}
	config.Cluster.(*fakeCluster).snapshot = &membership.Snapshot{
		Cluster: "snakes", ClusterID: "c1", Self: idA, Rosters: [][]string{{idA, idB, idC}},
		Members: []membership.Member{
			member(idZoe, "zoe", "127.0.0.1:9003", membership.Syncing, false, true),
			member(idA, "node-a", "127.0.0.1:9000", membership.Alive, true, true),
			member(idB, "node-b", "127.0.0.1:9001", membership.Suspect, true, true),
			member(idC, "node-c", "127.0.0.1:9002", membership.Failed, true, false),
		},
	}
	config.Monitor.(*fakeMonitor).peers = map[string]replication.PeerStatus{
		idB:   {RTT: 312345 * time.Nanosecond, Skew: -1500 * time.Microsecond, Keys: 16, Behind: 2},
		idZoe: {RTT: 100 * time.Microsecond, Keys: 3, Pulled: 3, Offered: 17},
	}
	config.Store.(*fakeStore).keys, config.Store.(*fakeStore).tombstones = 1, 7
	config.Collector = fakeCollector{idC: 7}
	return config, coordinator
}

func TestMembersAreListedInJSON(t *testing.T) {
	config, coordinator := threeMembers()
	n := start(t, config)
	const want = `{"cluster":"snakes","self":"node-a","known":3,"alive":2,"quorum":2,"writable":true,"self_id":"0000000000000000000000000000000a","protected":false,"exposed":false,"tls":false,` +
		`"unready":[],` +
		`"disk":{"free":7516192768,"size":9663676416,"latched":false,"full":false,"damaged":0},"tombstones":7,"members":[` +
		`{"id":"0000000000000000000000000000000a","name":"node-a","address":"127.0.0.1:9000","state":"alive","version":"1.0.0",` +
		`"since":"2026-11-22T12:00:00Z","rtt_ms":0,"clock_skew_ms":0,"keys":1,"behind":0,"synced":true,"blocks":0},` +
		`{"id":"0000000000000000000000000000000b","name":"node-b","address":"127.0.0.1:9001","state":"suspect","version":"1.0.0",` +
		`"since":"2026-11-22T12:00:00Z","rtt_ms":0.312,"clock_skew_ms":-1.5,"keys":16,"behind":2,"synced":true,"blocks":0},` +
		`{"id":"0000000000000000000000000000000c","name":"node-c","address":"127.0.0.1:9002","state":"failed","version":"1.0.0",` +
		`"since":"2026-11-22T12:00:00Z","rtt_ms":0,"clock_skew_ms":0,"keys":0,"behind":0,"synced":true,"blocks":7},` +
		`{"id":"00000000000000000000000000000001","name":"zoe","address":"127.0.0.1:9003","state":"syncing","version":"1.0.0",` +
		`"since":"2026-11-22T12:00:00Z","rtt_ms":0.1,"clock_skew_ms":0,"keys":3,"behind":0,"synced":false,"learner":true,"blocks":0,"progress":{"pulled":3,"offered":17}}]}` + "\n"
	a := n.ask("GET", "/-/members", "")
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d with %s, want 200 with application/json", a.StatusCode, a.Header.Get("Content-Type"))
	}
	if diff := cmp.Diff(want, a.text); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}

	coordinator.writable = func() error { return &replication.QuorumError{} }
	if a := n.ask("GET", "/-/members", ""); !strings.Contains(a.text, `"writable":false`) {
		t.Errorf("when a plain PUT would fail: got %s, want writable false", a.text)
	}
}

func TestANodeThatIsJoiningCountsItselfAlone(t *testing.T) {
	config, coordinator := fakes()
	coordinator.writable = func() error { return replication.ErrNotReady }
	config.Cluster.(*fakeCluster).snapshot = &membership.Snapshot{
		Cluster: "snakes", Self: idA,
		Members: []membership.Member{
			{ID: idA, Name: "node-a", State: membership.Joining, Live: true},
			{ID: idB, Name: "node-b", State: membership.Joining, Live: true},
		},
	}
	n := start(t, config)
	a := n.ask("GET", "/-/members", "")
	if want := `"known":1,"alive":1,"quorum":1,"writable":false`; !strings.Contains(a.text, want) {
		t.Errorf("got %s, want %s", a.text, want)
	}
}

func TestMembersAreListedAsATable(t *testing.T) {
	config, _ := threeMembers()
	n := start(t, config)
	a := n.ask("GET", "/-/members?format=text", "")
	want := strings.Join([]string{
		"cluster snakes: 3 known, 2 alive, quorum 2, writable, 7 tombstones, 1 learner",
		"NAME     ADDRESS         STATE          SINCE                 RTT    SKEW    KEYS  BEHIND  BLOCKS  VERSION  ID",
		"node-a*  127.0.0.1:9000  alive          2026-11-22T12:00:00Z  -      -       1     -       0       1.0.0    0000000000000000000000000000000a",
		"node-b   127.0.0.1:9001  suspect        2026-11-22T12:00:00Z  0.3ms  -1.5ms  16    2       0       1.0.0    0000000000000000000000000000000b",
		"node-c   127.0.0.1:9002  failed         2026-11-22T12:00:00Z  -      -       -     -       7       1.0.0    0000000000000000000000000000000c",
		"zoe      127.0.0.1:9003  syncing(3/17)  2026-11-22T12:00:00Z  0.1ms  0.0ms   3     0       0       1.0.0    00000000000000000000000000000001",
		"",
	}, "\n")
	if diff := cmp.Diff(want, a.text); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if got, want := a.Header.Get("Content-Type"), "text/plain; charset=utf-8"; got != want {
		t.Errorf("content type: got %q, want %q", got, want)
	}

	config.Store.(*fakeStore).tombstones = 0
	config.Cluster.(*fakeCluster).snapshot.Members[0].Counted = true
	if a := n.ask("GET", "/-/members?format=text", ""); !strings.HasPrefix(a.text, "cluster snakes: 3 known, 3 alive, quorum 2, writable\n") {
		t.Errorf("with neither tombstones nor learners: got %s, want a first line without them", a.text)
	}
}

func TestAMemberThatHasNotEverythingSaysHowFarItIs(t *testing.T) {
	config, _ := fakes()
	config.Cluster.(*fakeCluster).snapshot.Members[0].Synced = false
	for _, row := range []struct {
		offered                uint64
		cell, json, ready, not string
	}{
		{0, " syncing ", `"progress":{"pulled":0,"offered":0}`, "[-] synced: this node catches up with the others\n", "fetched"},
		{9, " syncing(2/9) ", `"progress":{"pulled":2,"offered":9}`, "and has fetched 2 of 9 keys\n", " syncing "},
	} {
		config.Syncer = fakeSyncer{From: idB, Pulled: min(2, row.offered), Offered: row.offered}
		n := start(t, config)
		for path, want := range map[string]string{"members?format=text": row.cell, "members": row.json, "ready": row.ready} {
			if a := n.ask("GET", "/-/"+path, ""); !strings.Contains(a.text, want) || strings.Contains(a.text, row.not) {
				t.Errorf("%s: got %s, want %q and not %q", path, a.text, want, row.not)
			}
		}
	}
}

func TestForgetTellsWhyItRefuses(t *testing.T) {
	config, _ := threeMembers()
	var got string
	var fails error
	config.Cluster.(*fakeCluster).forget = func(nameOrID string, force bool) error {
		got = fmt.Sprint(nameOrID, " ", force)
		return fails
	}
	n := start(t, config)
	for _, row := range []struct {
		path   string
		fails  error
		status int
		code   string
		called string
		detail string
	}{
		{"node-c", nil, 204, "", "node-c false", ""},
		{idC, nil, 204, "", idC + " false", ""},
		{"node-c?force=1", nil, 204, "", "node-c true", ""},
		{"node-c?force=0", nil, 400, "bad-parameter", "", ""},
		{"node-c?force", nil, 400, "bad-parameter", "", ""},
		{"node-c?w=1", nil, 400, "bad-parameter", "", ""},
		{"node%2dc", membership.ErrUnknownMember, 404, "not-found", "node%2dc false", ""},
		{"..", membership.ErrUnknownMember, 404, "not-found", ".. false", ""},
		{"node-a", membership.ErrMemberAlive, 409, "conflict", "node-a false", `"title":"Member is alive","status":409,"detail":"Only a member that is not alive can be forgotten. Stop it first."`},
		{"node-b", membership.ErrMemberAlive, 409, "conflict", "node-b false", `"title":"Member may be alive","status":409,"detail":"This member does not answer, but has not failed yet. Repeat`},
		{idB, membership.ErrMemberAlive, 409, "conflict", idB + " false", `"title":"Member may be alive"`},
		{"node-c", membership.ErrNoMajority, 409, "conflict", "node-c false", "may still take effect. Repeat it when more members are alive, or with ?force=1"},
		{"node-c", errors.Join(membership.ErrNoMajority, membership.ErrMinority), 409, "conflict", "node-c false", "nothing was changed. Repeat it when more members are alive, or with ?force=1"},
		{"twins", &membership.AmbiguousError{Name: "twins", IDs: []string{idB, idC}}, 409, "conflict", "twins false", idB + ", " + idC},
	} {
		got, fails = "", row.fails
		if fails != nil {
			fails = fmt.Errorf("forget: %w", fails)
		}
		a := n.ask("DELETE", "/-/members/"+row.path, "")
		if a.StatusCode != row.status || a.code(t) != row.code || !strings.Contains(a.text, row.detail) {
			t.Errorf("%s: got %d %s, want %d %s with %q", row.path, a.StatusCode, a.text, row.status, row.code, row.detail)
		}
		if got != row.called {
			t.Errorf("%s: forget called with %q, want %q", row.path, got, row.called)
		}
	}
}

func TestReadyNamesWhatIsMissing(t *testing.T) {
	joined := func(config *apiConfig, synced, counted bool) {
		config.Cluster.(*fakeCluster).snapshot = &membership.Snapshot{
			Self: idA, Rosters: [][]string{{idA}}, Members: []membership.Member{{ID: idA, Live: true, Synced: synced, Counted: counted}},
		}
	}
	for _, row := range []struct {
		name   string
		broken func(config *apiConfig, coordinator *fakeCoordinator)
		lines  []string // that are not [+]
	}{
		{"all well", func(*apiConfig, *fakeCoordinator) {}, nil},
		{"joining", func(config *apiConfig, coordinator *fakeCoordinator) {
			config.Cluster.(*fakeCluster).snapshot = &membership.Snapshot{Self: idA}
			coordinator.writable = func() error { return replication.ErrNotReady }
		}, []string{"[-] joined: ", "[-] synced: ", "[-] default write level reachable: "}},
		{"syncing", func(config *apiConfig, _ *fakeCoordinator) { joined(config, false, true) }, []string{"[-] synced: "}},
		{"learner", func(config *apiConfig, _ *fakeCoordinator) { joined(config, true, false) }, []string{"[-] synced: "}},
		{"disk latched", func(config *apiConfig, _ *fakeCoordinator) {
			config.Store.(*fakeStore).writable = fmt.Errorf("sync /data/secret: %w", replication.ErrReadOnly)
		}, []string{"[-] disk writable: "}},
		{"alone", func(_ *apiConfig, coordinator *fakeCoordinator) {
			coordinator.writable = func() error {
				return &replication.QuorumError{
					Need: 2, Alive: 1, Known: 3, Written: replication.WrittenNo, Receipt: replication.Receipt{Missing: []string{"b", "c"}},
				}
			}
		}, []string{"[-] default write level reachable: a plain PUT needs 2 of 3 members; 1 is alive; missing: b, c"}},
		{"draining", func(config *apiConfig, _ *fakeCoordinator) {
			config.Cluster.(*fakeCluster).snapshot = &membership.Snapshot{
				Self: idA, Rosters: [][]string{{idA}},
				Members: []membership.Member{{ID: idA, Live: true, Synced: true, Counted: true, State: membership.Draining}},
			}
		}, []string{"[-] staying: "}},
		{"clock", func(config *apiConfig, _ *fakeCoordinator) {
			config.Monitor.(*fakeMonitor).skew = errors.New("wall clock is 3s behind")
		}, []string{"[-] clock: wall clock is 3s behind"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			config, coordinator := fakes()
			row.broken(&config, coordinator)
			n := start(t, config)
			a := n.ask("GET", "/-/ready", "")
			want := 200
			if len(row.lines) > 0 {
				want = 503
			}
			if a.StatusCode != want {
				t.Errorf("got %d, want %d; %s", a.StatusCode, want, a.text)
			}
			var missing []string
			for line := range strings.Lines(a.text) {
				if !strings.HasPrefix(line, "[+] ") {
					missing = append(missing, strings.TrimSuffix(line, "\n"))
				}
			}
			if !slices.EqualFunc(missing, row.lines, strings.HasPrefix) {
				t.Errorf("got %q, want lines that begin with %q", missing, row.lines)
			}
			if got := strings.Count(a.text, "\n"); got != 6 {
				t.Errorf("got %d lines, want one for each of 6 conditions: %s", got, a.text)
			}
			if strings.Contains(a.text, "secret") {
				t.Errorf("the answer tells a path: %s", a.text)
			}
			if a := n.ask("GET", "/-/healthy", ""); a.StatusCode != 200 {
				t.Errorf("healthy: got %d, want 200 whatever is missing", a.StatusCode)
			}
		})
	}
}

func TestEverybodyGetsTheIndexAtTheRootAndBrowsersThePage(t *testing.T) {
	config, _ := fakes()
	n := start(t, config)
	for _, path := range []string{"/", "/-/"} {
		a := n.ask("GET", path, "", "Accept", "*/*")
		if a.StatusCode != 200 || !strings.Contains(a.text, "/-/members") || a.Header.Get("Vary") != "Accept" {
			t.Errorf("GET %s: got %d %q, want an index", path, a.StatusCode, a.text)
		}
		a = n.ask("GET", path, "", "Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
		if a.StatusCode != 303 || a.Header.Get("Location") != "/-/ui/" {
			t.Errorf("GET %s by a browser: got %d to %q, want the page", path, a.StatusCode, a.Header.Get("Location"))
		}
	}
	for _, line := range []string{"GET http://x HTTP/1.1", "GET http://x/ HTTP/1.1"} {
		if a := n.raw(line); a.StatusCode != 200 || !strings.Contains(a.text, "/-/members") {
			t.Errorf("%s: got %d, want an index", line, a.StatusCode)
		}
	}
	if a := n.raw("DELETE http://x HTTP/1.1"); a.StatusCode != 405 {
		t.Errorf("DELETE of the root: got %d, want 405", a.StatusCode)
	}
}

func TestOnlyWhatIsRoutedIsAllowedUnderDash(t *testing.T) {
	config, _ := fakes()
	n := start(t, config)
	for path, want := range map[string]string{
		"/": "GET, HEAD", "/-/": "GET, HEAD", "/-/members": "GET, HEAD", "/-/members/x": "DELETE", "/-/healthy": "GET, HEAD",
		"/-/ready": "GET, HEAD", "/-/digest": "GET, HEAD", "/-/inspect/x": "GET, HEAD", "/-/keys": "GET, HEAD", "/-/watch": "GET, HEAD", "/-/events": "GET, HEAD", "/-/peer/write": "POST",
		"/-/leave": "POST", "/-/repair": "POST", "/-/ui/": "GET, HEAD", "/-/ui/live": "GET, HEAD", "/-/ui/forget": "GET, HEAD, POST",
	} {
		a := n.ask("PATCH", path, "")
		if got := a.Header.Get("Allow"); a.StatusCode != 405 || a.code(t) != "method-not-allowed" || got != want {
			t.Errorf("PATCH %s: got %d and Allow %q, want 405 and %q", path, a.StatusCode, got, want)
		}
	}
	for _, path := range []string{"/", "/-/", "/-/members", "/-/healthy", "/-/ready", "/-/digest", "/-/inspect/x", "/-/keys", "/-/watch", "/-/events", "/-/members?format=json", "/-/members?format="} {
		if !strings.Contains(path, "?") {
			path += "?x=1"
		}
		if a := n.ask("GET", path, ""); a.StatusCode != 400 || a.code(t) != "bad-parameter" {
			t.Errorf("GET %s: got %d, want 400 bad-parameter", path, a.StatusCode)
		}
	}
}

func TestDigestTellsWhatTheStoreHolds(t *testing.T) {
	config, _ := fakes()
	set := seen.Of(version.Dot{Origin: 0x5f0c, Counter: 20}, version.Dot{Origin: 1 << 63, Counter: 1})
	for counter := range uint64(17) {
		set.Add(version.Dot{Origin: 0x5f0c, Counter: counter + 1})
	}
	for _, tc := range []struct {
		store *fakeStore
		want  string
	}{
		{&fakeStore{seen: new(seen.Set)}, `{"digest":"0000000000000000","keys":0,"seen":{}}`},
		{
			&fakeStore{keys: 3, digest: 0xabc, seen: set},
			`{"digest":"0000000000000abc","keys":3,"seen":{"5f0c":"1-17,20","8000000000000000":"1"}}`,
		},
	} {
		config.Store = tc.store
		n := start(t, config)
		if a := n.ask("GET", "/-/digest", ""); a.StatusCode != 200 || a.text != tc.want+"\n" {
			t.Errorf("digest: got %d %q, want 200 %q", a.StatusCode, a.text, tc.want)
		}
	}
}

func TestInspectShowsEveryCopy(t *testing.T) {
	config, coordinator := fakes()
	coordinator.inspect = func(key string) (replication.Inspection, error) {
		return replication.Inspection{
			Key: key, Winner: someVersion(2), Why: "2 of 4 members hold it",
			Copies: []replication.Copy{
				{ID: idA, Name: "node-a", State: replication.CopyPresent, Version: someVersion(2), Size: 3, Checksum: 0x364b3fb7},
				{ID: idB, Name: "node-b", State: replication.CopyDeleted, Version: someVersion(1)},
				{ID: idC, Name: "node-c", State: replication.CopyUnreachable, Err: errors.New("open /data/secret")},
				{ID: "d", Name: "node-d", State: replication.CopyDamaged, Err: fmt.Errorf("/data/secret: %w", replication.ErrDamaged)},
			},
		}, nil
	}
	n := start(t, config)
	v1, v2 := someVersion(1).String(), someVersion(2).String()
	want := `{"key":"foo","winner":"` + v2 + `","why":"2 of 4 members hold it","replicas":[` +
		`{"id":"` + idA + `","name":"node-a","state":"present","version":"` + v2 + `","size":3,"checksum":"364b3fb7","error":""},` +
		`{"id":"` + idB + `","name":"node-b","state":"deleted","version":"` + v1 + `","size":0,"checksum":"","error":""},` +
		`{"id":"` + idC + `","name":"node-c","state":"unreachable","version":"","size":0,"checksum":"","error":"no answer"},` +
		`{"id":"d","name":"node-d","state":"damaged","version":"","size":0,"checksum":"","error":"record damaged"}]}` + "\n"
	if diff := cmp.Diff(want, n.ask("GET", "/-/inspect/foo", "").text); diff != "" {
		t.Errorf("inspect (-want +got):\n%s", diff)
	}
}
