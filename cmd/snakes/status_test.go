package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/protocol7/snakes/node/client"
)

// oneIsGone are the views of a cluster of three of which one is dead.
func oneIsGone(now time.Time) []client.View {
	since := now.Add(-4*time.Minute - 12*time.Second)
	members := func(self string) client.Members {
		return client.Members{
			Cluster: "snakes", Self: self, SelfID: self + "0", Known: 3, Alive: 2, Quorum: 2, Writable: true, Protected: true,
			Unready: []client.Unready{}, Disk: client.Disk{Free: 5 << 30, Size: 10 << 30}, Tombstones: 7,
			Members: []client.Member{
				{ID: "a0", Name: "a", Address: "10.0.0.1:9000", State: "alive", Since: since, Version: "1.0.0", Keys: 17, Synced: true},
				{ID: "b0", Name: "b", Address: "10.0.0.2:9000", State: "alive", Since: since, Version: "1.0.0", Keys: 17, Synced: true, Behind: 2, ClockSkew: -1.5},
				{ID: "c0", Name: "c", Address: "10.0.0.3:9000", State: "failed", Since: since, Version: "1.0.0", Blocks: 7},
			},
		}
	}
	b := members("b")
	b.Members[1].Behind, b.Members[1].ClockSkew, b.Members[2].Blocks = 0, 0, 3
	return []client.View{
		{ID: "a0", Server: "http://10.0.0.1:9000", Members: members("a")},
		{ID: "b0", Server: "http://10.0.0.2:9000", Members: b},
		{ID: "c0", Server: "http://10.0.0.3:9000", Err: errors.New("connection refused")},
	}
}

func TestStatusIsOneScreen(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 4, 12, 0, time.UTC)
	const want = `DEGRADED  c is failed since 2026-11-22T12:00:00Z (4m12s), and the marks of 7 deletes are kept for it. Reads and writes go on. The loss of one more would end writes.

cluster snakes: 3 known, 2 alive, quorum 2, protected
NAME  ADDRESS        STATE   FOR    READY  WRITES  SEES  KEYS  BEHIND  BLOCKS  SKEW    DISK              VERSION
a     10.0.0.1:9000  alive   4m12s  yes    yes     2/3   17    0       0       0.0ms   5.0GiB(50%) free  1.0.0
b     10.0.0.2:9000  alive   4m12s  yes    yes     2/3   17    2       0       -1.5ms  5.0GiB(50%) free  1.0.0
c     10.0.0.3:9000  failed  4m12s  -      -       -     0     0       7       0.0ms   -                 1.0.0

DEGRADED  c is failed since 2026-11-22T12:00:00Z (4m12s), and the marks of 7 deletes are kept for it.
  Start it again. If it never comes back, start a new node under its name with --join, or have the cluster forget it.
  $ snakes forget c --server http://10.0.0.1:9000
`
	if diff := cmp.Diff(want, string(statusScreen(reportOf(oneIsGone(now), now), now))); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
}

func TestStatusInJSONHasVerdictProblemsAndViews(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 4, 12, 0, time.UTC)
	views := oneIsGone(now)
	views[0].Members.Members, views = views[0].Members.Members[:1], append(views[:1], views[2]) // one member is enough
	got, err := json.Marshal(reportOf(views, now))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		`{"verdict":"OK","sentence":"The only member is alive and takes reads and writes. The loss of one more would end writes.","problems":[],"views":[`,
		`{"id":"a0","server":"http://10.0.0.1:9000","members":{"cluster":"snakes","self":"a","known":3,"alive":2,"quorum":2,"writable":true,"self_id":"a0",`,
		`"protected":true,"exposed":false,"tls":false,"unready":[],"disk":{"free":5368709120,"size":10737418240,"latched":false,"full":false,"damaged":0},"tombstones":7,`,
		`"members":[{"id":"a0","name":"a","address":"10.0.0.1:9000","state":"alive","version":"1.0.0","since":"2026-11-22T12:00:00Z","rtt_ms":0,`,
		`"clock_skew_ms":0,"keys":17,"behind":0,"synced":true,"blocks":0}]}},`,
		`{"id":"c0","server":"http://10.0.0.3:9000","error":"connection refused","members":null}]}`,
	}, "")
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestWaitKnowsWhenAllAreReady(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		name     string
		change   func(views []client.View)
		ready    bool
		twoAlive bool
	}{
		{"one is dead", func([]client.View) {}, false, true},
		{"all are well", func(v []client.View) {
			for i := range v[:2] {
				v[i].Members.Members[2].State, v[i].Members.Members[2].Synced = "alive", true
			}
		}, true, true},
		{"one sees another one suspect", func(v []client.View) {
			v[0].Members.Members[2].State, v[0].Members.Members[2].Synced = "alive", true
			v[1].Members.Members[2].State = "suspect"
		}, false, true},
		{"one is not ready", func(v []client.View) {
			v[0].Members.Members[2].State, v[0].Members.Members[2].Synced = "alive", true
			v[1] = v[0]
			v[1].Members.Unready = []client.Unready{{Check: "clock", Why: "off"}}
		}, false, true},
		{"one sees less", func(v []client.View) { v[1].Members.Alive = 1 }, false, false},
		{"nobody answers", func(v []client.View) { v[0].Err, v[1].Err = errors.New("no"), errors.New("no") }, false, false},
		{"somebody joins", func(v []client.View) {
			for i := range v[:2] {
				v[i].Members.Members[2].State, v[i].Members.Members[2].Learner = "syncing", true
			}
		}, true, true},
	} {
		views := oneIsGone(now)
		row.change(views)
		if got := allReady(views); got != row.ready {
			t.Errorf("%s: got ready %v, want %v", row.name, got, row.ready)
		}
		two, err := parseGoal("alive=2")
		if err != nil {
			t.Fatal(err)
		}
		if got := two(views); got != row.twoAlive {
			t.Errorf("%s: got two alive %v, want %v", row.name, got, row.twoAlive)
		}
	}
}
