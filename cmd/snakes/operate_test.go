package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/protocol7/snakes/node/client"
)

const leavingID = "0123456789abcdef0123456789abcdef"

// membersOf answers with a cluster of two, the leaving node among them or not.
func membersOf(w io.Writer, leavingToo bool, other string) {
	leaving := ""
	if leavingToo {
		leaving = fmt.Sprintf(`{"id":%q,"name":"c","address":"127.0.0.1:1"},`, leavingID)
	}
	fmt.Fprintf(w, `{"cluster":"snakes","self":"c","known":2,"members":[%s{"id":"b","name":"b","address":%q}]}`, leaving, other)
}

// leavingNode is a server that leaves when it is told to.
func leavingNode(t *testing.T, other string, left func()) string {
	return fake(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /-/members":
			membersOf(w, true, other)
		case "POST /-/leave":
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, `{"id":%q,"name":"c","detail":"It will."}`, leavingID)
			left()
		default:
			t.Errorf("got %s %s", r.Method, r.URL)
		}
	})
}

func TestLeaveWaitsUntilOthersCountTheNodeNoMore(t *testing.T) {
	var told atomic.Bool
	var looks atomic.Int32
	other := fake(t, func(w http.ResponseWriter, r *http.Request) {
		membersOf(w, !told.Load() || looks.Add(1) < 3, "")
	})
	node := leavingNode(t, strings.TrimPrefix(other, "http://"), func() { told.Store(true) })
	want := "c is leaving. It will.\nc has left; 2 members remain\n"
	if got := runHere(t.Context(), nil, "leave", "--yes", "--server", node); got != (result{0, "", want}) {
		t.Errorf("got %+v, want exit code 0 and %q", got, want)
	}
	if looks.Load() < 3 {
		t.Errorf("it ended after %d looks, while the node was a member", looks.Load())
	}
	got := runHere(t.Context(), nil, "leave", "--yes", "--server", node, "-o", "json")
	if got.code != 0 || !strings.HasPrefix(got.stdout, `{"id":"`+leavingID) {
		t.Errorf("with -o json: got %+v, want exit code 0 and the node's answer", got)
	}
}

func TestLeaveWantsToBeMeant(t *testing.T) {
	var told atomic.Bool
	node := leavingNode(t, "127.0.0.1:1", func() { told.Store(true) })
	got := runHere(t.Context(), strings.NewReader("y\n"), "leave", "--server", node)
	want := "snakes: leave takes c at " + node + " out of cluster snakes for good.\n" +
		"The cluster has 2 members and will have 1.\nSay --yes if that is meant.\n"
	if got != (result{2, "", want}) || told.Load() {
		t.Errorf("without a terminal: got %+v, told %t; want exit code 2, %q, and nothing told", got, told.Load(), want)
	}
}

func TestOneMemberRemains(t *testing.T) {
	for n, want := range map[int]string{1: "1 member remains", 2: "2 members remain"} {
		if got := remain(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestLeaveSaysWhenItIsNotDone(t *testing.T) {
	refuses := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			membersOf(w, true, "")
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"type":"urn:snakes:error:conflict","title":"Last member","detail":"Alone.","node":"a","request_id":"r"}`)
	})
	if got := runHere(t.Context(), nil, "leave", "--yes", "--server", refuses); got.code != 1 || !strings.Contains(got.stderr, "last member: Alone.") {
		t.Errorf("refused: got %+v, want exit code 1 and why", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	other := fake(t, func(w http.ResponseWriter, r *http.Request) { membersOf(w, true, "") })
	node := leavingNode(t, strings.TrimPrefix(other, "http://"), cancel)
	if got := runHere(ctx, nil, "leave", "--yes", "--server", node); got.code != 130 {
		t.Errorf("interrupted: got %+v, want exit code 130", got)
	}

	for _, row := range []struct {
		name, other, want string
	}{
		{"still a member", other, "still counts as a member; start it, or forget it: snakes forget " + leavingID + " --server " + other},
		{"nobody to ask", "http://127.0.0.1:1", "no server answered"},
	} {
		var stderr bytes.Buffer
		r := newRemote(program{getenv: func(string) string { return "" }, stderr: &stderr})
		r.timeout = time.Second
		d := departure{
			remote: r, leaving: client.Begun{ID: leavingID, Name: "c"}, server: "http://127.0.0.1:1",
			others: []string{row.other[len("http://"):]}, silence: 300 * time.Millisecond,
		}
		if err := d.wait(t.Context()); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
}

func TestForgetNamesWhatItWillDoAndDoesItByID(t *testing.T) {
	const lost, learner = "cccccccccccccccccccccccccccccccc", "dddddddddddddddddddddddddddddddd"
	var asked []string
	url := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fmt.Fprintf(w, `{"cluster":"snakes","self":"a","known":2,"members":[{"id":"i","name":"a","state":"alive"},`+
				`{"id":%q,"name":"c","address":"127.0.0.1:3","state":"failed"},{"id":%q,"name":"d","address":"127.0.0.1:4","state":"syncing"},`+
				`{"id":"t1","name":"twin"},{"id":"t2","name":"twin"}]}`, lost, learner)
			return
		}
		asked = append(asked, r.Method+" "+r.RequestURI)
		w.WriteHeader(http.StatusNoContent)
	})
	const member = "forget takes c at 127.0.0.1:3 (failed) out of cluster snakes for good.\nThe cluster has 2 members and will have 1.\n"
	for _, row := range []struct {
		args           string
		code           int
		asked, printed string
	}{
		{"c", 2, "", "snakes: " + member + "Say --yes if that is meant.\n"},
		{"c --force", 2, "", "snakes: " + member + "--force does it without a majority: if other members still run elsewhere, both sides may go on separately.\nSay --yes if that is meant.\n"},
		{"d", 2, "", "snakes: forget takes d at 127.0.0.1:4 (syncing) out of cluster snakes for good.\nThe cluster has 2 members.\nSay --yes if that is meant.\n"},
		{"c --yes", 0, "DELETE /-/members/" + lost, "c is forgotten\n"},
		{"--yes " + lost, 0, "DELETE /-/members/" + lost, "c is forgotten\n"},
		{"c --yes --force", 0, "DELETE /-/members/" + lost + "?force=1", "c is forgotten\n"},
		{"nobody --yes", 1, "", "snakes: forget \"nobody\": no member has this name or id; 'snakes members' lists them\n"},
		{"twin --yes", 1, "", "snakes: forget \"twin\": several members have this name: t1, t2; name the one you mean by its id\n"},
	} {
		asked = nil
		got := runHere(t.Context(), nil, append([]string{"forget", "--server", url}, strings.Fields(row.args)...)...)
		if want := (result{row.code, "", row.printed}); got != want || strings.Join(asked, ", ") != row.asked {
			t.Errorf("forget %s: got %+v and requests %q, want %+v and %q", row.args, got, asked, want, row.asked)
		}
	}
}

func TestAdviceOfNodesIsGivenInFlags(t *testing.T) {
	url := fake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"type":"urn:snakes:error:quorum","title":"Quorum","detail":"Ask with ?w=2, ?r=quorum or ?force=1.","node":"a","request_id":"r"}`)
	})
	want := "snakes: get \"k?w=1\": quorum: Ask with -w 2, -r quorum or --force. (node a, request r)\n"
	if got := runHere(t.Context(), nil, "get", "k?w=1", "--server", url); got != (result{4, "", want}) {
		t.Errorf("got %+v, want exit code 4 and %q", got, want)
	}
}

func TestRepairWantsToBeMeant(t *testing.T) {
	var asked atomic.Int32
	url := fake(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodPost || r.RequestURI != "/-/repair?accept-loss=1" {
			t.Errorf("got %s %s", r.Method, r.RequestURI)
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"id":"i","name":"a","detail":"It goes on."}`)
	})
	for _, row := range []struct {
		args  []string
		asked int32
		code  int
	}{
		{[]string{"--accept-loss", "--yes"}, 1, 0},
		{[]string{"--accept-loss"}, 0, 2}, // there is no terminal
		{[]string{"--yes"}, 0, 2},
	} {
		asked.Store(0)
		got := runHere(t.Context(), strings.NewReader("y\n"), append([]string{"repair", "--server", url}, row.args...)...)
		if got.code != row.code || asked.Load() != row.asked {
			t.Errorf("%v: got %+v and %d requests, want exit code %d and %d", row.args, got, asked.Load(), row.code, row.asked)
		}
		if row.code == 0 && got.stderr != "a: It goes on.\n" {
			t.Errorf("%v: got %q", row.args, got.stderr)
		}
	}
}
