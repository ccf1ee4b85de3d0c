package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/node/events"
	"github.com/protocol7/snakes/node/token"
	"github.com/protocol7/snakes/node/ui"
	"github.com/protocol7/snakes/replication"
)

// seenFrom is what a member with an id says of a cluster.
func seenFrom(config apiConfig, id string) client.Members {
	config.Self = id
	return newAPI(config).view().Members
}

// awaitPage returns the page once it has all of words: what the others see is shown when it has come, and nobody waits long
// for it.
func awaitPage(n *testNode, words ...string) answer {
	n.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		a := n.ask("GET", "/-/ui/", "")
		missing := slices.DeleteFunc(slices.Clone(words), func(word string) bool { return strings.Contains(a.text, word) })
		if len(missing) == 0 {
			return a
		}
		if time.Now().After(deadline) {
			n.t.Errorf("the page has no %q", missing)
			return a
		}
	}
}

func TestThePageIsWholeWithoutAScript(t *testing.T) {
	config, _ := threeMembers()
	config.Views = newViews(func(_ context.Context, id string) (client.Members, error) { return seenFrom(config, id), nil })
	t.Cleanup(config.Views.Close)
	log := events.New()
	config.Events = log
	log.Tee(hclog.NewNullLogger()).Warn("member changed state", "node", "node-c", "state", "failed", "id", idC)
	a := awaitPage(start(t, config),
		`<html lang="en" class="degraded">`, "<title>DEGRADED · snakes on node-a</title>", "node-c is failed since",
		`<a href="http://127.0.0.1:9001/-/ui/">node-b</a>`, `<a class="act" href="/-/ui/forget?member=`+idC+`"`, `<i class="s suspect"`,
		"0.31 ms", "syncing <small>3/17</small>", "no answer: it is failed", "snakes forget node-c --server http://127.0.0.1:9000",
		"<b>member changed state</b>", `<a class="unscripted" href="/-/ui/">Reload</a>`,
	)
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": ui.Policy, "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "same-origin", "Cache-Control": "no-store",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if strings.Contains(a.text, "<style") || strings.Contains(a.text, " style=") || regexp.MustCompile(`<script[^>]*>[^<]|\son\w+=`).MatchString(a.text) {
		t.Error("the page has a style or script within it, which its policy forbids")
	}
	if strings.Contains(ui.Policy, "unsafe") {
		t.Errorf("the policy allows too much: %s", ui.Policy)
	}
}

// TestALargeClusterFitsOnThePage: everything that the page can show, of a node that has seen much.
func TestALargeClusterFitsOnThePage(t *testing.T) {
	config, _ := fakes()
	snapshot := membership.Snapshot{Cluster: "snakes", ClusterID: "c1", Self: idA}
	for i := range 25 {
		snapshot.Members = append(snapshot.Members, membership.Member{
			ID: fmt.Sprintf("%032x", i+10), Name: fmt.Sprintf("node-%d.example.org", i), Address: fmt.Sprintf("192.0.2.%d:9000", i),
			Version: "1.0.0", State: membership.Alive, Counted: true, Live: true, Synced: true, Enrolled: true,
		})
	}
	config.Cluster.(*fakeCluster).snapshot = &snapshot
	config.Views = newViews(func(_ context.Context, id string) (client.Members, error) { return seenFrom(config, id), nil })
	t.Cleanup(config.Views.Close)
	config.History = new(ui.History)
	now := time.Now().Unix()
	for i := range int64(200) {
		v := float32(i*7919%1000) + .125
		config.History.Add(ui.Sample{At: now - 1000 + 5*i, Reads: v, Writes: v / 2, Failed: v / 9, ReadHalf: v, ReadMost: 2 * v, WriteHalf: v, WriteMost: 3 * v})
	}
	log := events.New()
	config.Events = log
	for range 100 {
		log.Tee(hclog.NewNullLogger()).Error("something went wrong", "node", "node-1.example.org", "error", strings.Repeat("because ", 20))
	}
	a := start(t, config).ask("GET", "/-/ui/", "")
	t.Logf("25 members, 15 minutes of requests, %d events: %d bytes", pageEvents, len(a.text))
	if len(a.text) > 100_000 || !strings.Contains(a.text, "<polyline") || strings.Count(a.text, "something went wrong") != pageEvents {
		t.Errorf("got %d bytes with %d events, want all of it in 100,000", len(a.text), strings.Count(a.text, "something went wrong"))
	}
}

func TestNothingThatOthersSayIsMarkup(t *testing.T) {
	const evil = `"><script>alert(1)</script>'`
	config, coordinator := threeMembers()
	members := config.Cluster.(*fakeCluster).snapshot.Members
	for i := range members {
		members[i].Name, members[i].Version, members[i].Address = evil, evil, "javascript:alert(1)//"+evil
	}
	log := events.New()
	config.Events = log
	log.Tee(hclog.NewNullLogger()).Warn(evil, evil, evil)
	coordinator.inspect = func(key string) (replication.Inspection, error) {
		return replication.Inspection{Key: key, Why: evil, Copies: []replication.Copy{{Name: evil, State: evil}}}, nil
	}
	config.Views = newViews(func(context.Context, string) (client.Members, error) {
		return client.Members{SelfID: idB, Members: []client.Member{{ID: idA, Name: evil, State: evil}}}, nil
	})
	t.Cleanup(config.Views.Close)
	n := start(t, config)
	for _, path := range []string{"/-/ui/?key=foo", "/-/ui/forget?member=" + idC, "/-/ui/forget?member=%22%3E%3Cscript%3E", "/-/ui/?key=%22%3E%3Cscript%3E", "/-/ui/%22%3E%3Cscript%3E"} {
		a := n.ask("GET", path, "", "Accept", "text/html")
		if got := strings.Count(a.text, "<script"); got != 1 || strings.Contains(a.text, `href="javascript:`) {
			t.Errorf("%s: got %d scripts, want the page's own", path, got)
		}
	}
}

// TestASilentMemberHoldsUpNoPage: what is known of the others is there, and it is asked once at a time.
func TestASilentMemberHoldsUpNoPage(t *testing.T) {
	config, _ := threeMembers()
	var asked atomic.Int32
	config.Views = newViews(func(ctx context.Context, id string) (client.Members, error) {
		if id == idZoe {
			asked.Add(1)
			<-ctx.Done()
			return client.Members{}, ctx.Err()
		}
		return seenFrom(config, id), nil
	})
	n, began := start(t, config), time.Now()
	const seen, silent = `<tr><th scope="row">node-b</th><td class="c alive">`, `<tr><th scope="row">zoe</th><td class="unknown" colspan="4">no answer`
	awaitPage(n, seen, silent)
	for range 5 {
		if a := n.ask("GET", "/-/ui/", ""); !strings.Contains(a.text, seen) || !strings.Contains(a.text, silent) {
			t.Errorf("node-b has no view, or zoe has one, or no row: %s", a.text)
		}
	}
	if got, most := asked.Load(), 1+time.Since(began)/viewRest; int64(got) > int64(most) {
		t.Errorf("the silent member was asked %d times, want %d at most", got, most)
	}
	config.Views.Close()
	if got := config.Views.of(t.Context(), []string{idB}); got[idB].asking != nil {
		t.Error("somebody is asked after the end")
	}
}

// pageNews returns what an open page is told next.
func pageNews(t *testing.T, r *reader) (told news) {
	t.Helper()
	e, ok := r.next()
	if !ok || e.name != "page" {
		t.Fatalf("got %q, want news for a page", e)
	}
	if err := json.Unmarshal([]byte(e.data), &told); err != nil {
		t.Fatal(err)
	}
	return told
}

func TestAnOpenPageIsToldWhatHasChangedAtOnce(t *testing.T) {
	log := events.New()
	config, _ := threeMembers()
	config.Events = log
	n := start(t, config)
	r := n.open(within(t, time.Minute), "/-/ui/live", "")
	first := pageNews(t, r)
	for _, id := range []string{"verdict", "facts", "members", "matrix", "traffic", "actions", "events"} {
		if first.Parts[id] == "" {
			t.Errorf("the first news lacks %s", id)
		}
	}
	if first.Title != "DEGRADED · snakes on node-a" || first.Class != "degraded" || first.Build == "" || !strings.Contains(first.Icon, "degraded") {
		t.Errorf("got %+v", first)
	}
	log.Tee(hclog.NewNullLogger()).Warn("something new")
	for {
		next := pageNews(t, r)
		if _, same := next.Parts["matrix"]; same {
			t.Errorf("told again of what is the same: %s", next.Parts["matrix"])
		}
		if strings.Contains(next.Parts["events"], "something new") {
			break
		}
	}
}

// TestOpenPagesAreToldTheSame: others are asked for all of them at once, and for none if there is none (start looks for goroutines
// left).
func TestOpenPagesAreToldTheSame(t *testing.T) {
	config, _ := threeMembers()
	var asked atomic.Int32
	config.Views = newViews(func(_ context.Context, id string) (client.Members, error) {
		if id == idB {
			asked.Add(1)
		}
		return seenFrom(config, id), nil
	})
	n := start(t, config)
	t.Cleanup(config.Views.Close)
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	defer cancel()
	began := time.Now()
	var readers []*reader
	for range 10 {
		readers = append(readers, n.open(ctx, "/-/ui/live", ""))
	}
	for range 2 {
		for _, r := range readers {
			pageNews(t, r)
		}
	}
	if got, most := asked.Load(), int32(time.Since(began)/viewRest)+1; got == 0 || got > most {
		t.Errorf("with 10 open pages a member was asked %d times in %v, want 1 to %d", got, time.Since(began), most)
	}
}

func TestALookUpIsOnThePage(t *testing.T) {
	config, coordinator := fakes()
	coordinator.inspect = func(key string) (replication.Inspection, error) {
		if key != "foo" {
			return replication.Inspection{}, replication.ErrBadKey
		}
		return replication.Inspection{Key: key, Winner: someVersion(2), Why: "1 of 2 members hold it", Copies: []replication.Copy{
			{ID: idB, Name: "node-b", State: replication.CopyUnreachable, Err: errors.New("open /data/secret")},
			{ID: idA, Name: "node-a", State: replication.CopyPresent, Version: someVersion(2), Size: 12345, Checksum: 0x364b3fb7},
		}}, nil
	}
	n := start(t, config)
	a := n.ask("GET", "/-/ui/?key=foo", "")
	for _, want := range []string{"1 of 2 members hold it.", "12,345", "364b3fb7", someVersion(2).String() + " <b>wins</b>", "snakes inspect foo --server http://127.0.0.1:9000"} {
		if !strings.Contains(a.text, want) {
			t.Errorf("the look-up has no %q", want)
		}
	}
	if strings.Contains(a.text, "/data/secret") || strings.Index(a.text, ">node-a</th><td role") > strings.Index(a.text, ">node-b</th><td role") {
		t.Error("the look-up shows a path, or is in no order")
	}
	if a := n.ask("GET", "/-/ui/?key=a-b", ""); a.StatusCode != 200 || !strings.Contains(a.text, `class="error">A key is 1 to 255`) {
		t.Errorf("of a bad key: got %d, want a page that says so", a.StatusCode)
	}
}

func TestTheFilesOfThePageStayWhatTheyAre(t *testing.T) {
	config, _ := fakes()
	n := start(t, config)
	page := n.ask("GET", "/-/ui/", "")
	found := regexp.MustCompile(`(?:href|src)="(/-/ui/[a-z-]+-[0-9a-f]{12}\.(?:css|js|svg))"`).FindAllStringSubmatch(page.text, -1)
	if len(found) != 3 {
		t.Fatalf("got files %q, want an icon, a style and a script", found)
	}
	for _, m := range found {
		a := n.ask("GET", m[1], "")
		if a.StatusCode != 200 || len(a.text) < 100 || !strings.Contains(a.Header.Get("Cache-Control"), "immutable") || strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: got %d, %d bytes, %v", m[1], a.StatusCode, len(a.text), a.Header)
		}
	}
	if a := n.ask("GET", "/-/ui/page.css", ""); a.StatusCode != 404 || a.code(t) != "not-found" {
		t.Errorf("a file that is not there: got %d", a.StatusCode)
	}
}

func TestForgettingIsAskedForFirst(t *testing.T) {
	config, _ := threeMembers()
	var forgotten []string
	var fails error
	config.Cluster.(*fakeCluster).forget = func(nameOrID string, force bool) error {
		forgotten = append(forgotten, fmt.Sprint(nameOrID, " ", force))
		return fails
	}
	n := start(t, config)
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html"}
	question := n.ask("GET", "/-/ui/forget?member="+idC, "")
	for _, want := range []string{"Forget node-c?", "2 members instead of 3", `<form method="post" action="/-/ui/forget">`, `name="member" value="` + idC + `"`, "snakes forget node-c --server"} {
		if !strings.Contains(question.text, want) {
			t.Errorf("the question has no %q: %s", want, question.text)
		}
	}
	if strings.Contains(question.text, "force") {
		t.Error("the question offers force while there is a majority")
	}
	for id, want := range map[string]string{idB: "Only a member that has failed or was stopped", "nobody": "There is no such member"} {
		if a := n.ask("GET", "/-/ui/forget?member="+id, ""); !strings.Contains(a.text, want) || strings.Contains(a.text, "<form") {
			t.Errorf("about %s: got %s, want %q and no form", id, a.text, want)
		}
	}
	if forgotten != nil {
		t.Fatalf("forgotten by a question: %q", forgotten)
	}
	if a := n.ask("POST", "/-/ui/forget", "member="+idC, form...); a.StatusCode != 200 || !strings.Contains(a.text, "node-c is forgotten. The cluster counts") {
		t.Errorf("forget: got %d %s", a.StatusCode, a.text)
	}
	fails = membership.ErrMinority
	if a := n.ask("POST", "/-/ui/forget", "force=1&member="+idC, form...); a.StatusCode != 409 || !strings.Contains(a.text, "<h2>No majority of members</h2>") {
		t.Errorf("forget that fails: got %d %s", a.StatusCode, a.text)
	}
	for _, body := range []string{"member=nobody", "", "member=%zz"} {
		if a := n.ask("POST", "/-/ui/forget", body, form...); a.StatusCode < 400 || a.StatusCode >= 500 {
			t.Errorf("forget by %q: got %d", body, a.StatusCode)
		}
	}
	if want := []string{idC + " false", idC + " true"}; !slices.Equal(forgotten, want) {
		t.Errorf("forgotten: %q, want %q", forgotten, want)
	}
	config.Cluster.(*fakeCluster).snapshot.Members[2].Live = false
	if a := n.ask("GET", "/-/ui/forget?member="+idC, ""); !strings.Contains(a.text, `name="force" value="1"`) || !strings.Contains(a.text, "snakes forget node-c --force") {
		t.Errorf("without a majority: no force in %s", a.text)
	}
}

// TestOnlyThePageItselfMayDoThings: not that of another site, and not somebody at another machine.
func TestOnlyThePageItselfMayDoThings(t *testing.T) {
	config, _ := threeMembers()
	config.Operations = &fakeOperations{leave: func() error { t.Error("it leaves"); return nil }}
	n := start(t, config)
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Origin", "http://evil.example"},
		{"X-Forwarded-For", "192.0.2.1"},
	} {
		if a := n.ask("POST", "/-/ui/leave", "x=1", append(headers, "Accept", "text/html")...); a.StatusCode != 403 || !strings.Contains(a.text, "<h2>Forbidden</h2>") {
			t.Errorf("%q: got %d, want 403 on a page", headers, a.StatusCode)
		}
	}
	if a := n.ask("GET", "/-/ui/leave", "", "X-Forwarded-For", "192.0.2.1"); strings.Contains(a.text, "<form") || !strings.Contains(a.text, "machine of the node alone") {
		t.Errorf("from another machine the question has a button: %s", a.text)
	}
	if a := n.ask("GET", "/-/ui/leave", ""); !strings.Contains(a.text, "<form") {
		t.Errorf("from this machine the question has no button: %s", a.text)
	}
}

func TestADrainedNodeOffersToCallThatOff(t *testing.T) {
	config, _ := threeMembers()
	drained := false
	config.Operations = &fakeOperations{drain: func() error { drained = true; return nil }, undrain: func() error { drained = false; return nil }}
	config.Drained = func() bool { return drained }
	n := start(t, config)
	for _, row := range []struct {
		path, button string
		drained      bool
	}{{"drain", "Drain node-a", true}, {"undrain", "Undrain node-a", false}} {
		if a := n.ask("GET", "/-/ui/", ""); !strings.Contains(a.text, `<a class="act" href="/-/ui/`+row.path+`">`) || !strings.Contains(a.text, ">snakes "+row.path+" --server http://127.0.0.1:9000<") {
			t.Errorf("the page does not offer to %s", row.path)
		}
		if a := n.ask("GET", "/-/ui/"+row.path, ""); !strings.Contains(a.text, "<button>"+row.button+"</button>") || drained == row.drained {
			t.Errorf("the question: got %s, drained %v", a.text, drained)
		}
		if a := n.ask("POST", "/-/ui/"+row.path, "x=1"); a.StatusCode != 200 || drained != row.drained {
			t.Errorf("%s: got %d, drained %v", row.path, a.StatusCode, drained)
		}
	}
}

// TestThePageLeadsToOthersAsTheyAreAsked: by TLS where they have it.
func TestThePageLeadsToOthersAsTheyAreAsked(t *testing.T) {
	config, _ := threeMembers()
	config.Views = newViews(func(_ context.Context, id string) (client.Members, error) {
		seen := seenFrom(config, id)
		seen.TLS = id == idB
		return seen, nil
	})
	t.Cleanup(config.Views.Close)
	awaitPage(start(t, config), `<a href="https://127.0.0.1:9001/-/ui/">node-b</a>`, `<a href="http://127.0.0.1:9003/-/ui/">zoe</a>`, "snakes leave --server http://127.0.0.1:9000")
	config.TLS = true
	if got, want := newAPI(config).command("leave"), "snakes leave --server https://127.0.0.1:9000"; got != want {
		t.Errorf("the command for a node with a certificate is %q, want %q", got, want)
	}
}

func TestABrowserShowsATokenAsAPassword(t *testing.T) {
	set, err := token.Parse([]byte("read the-token-that-reads\nadmin the-token-for-admins\n"))
	if err != nil {
		t.Fatal(err)
	}
	config, _ := threeMembers()
	config.Tokens = set
	var left int
	config.Operations = &fakeOperations{leave: func() error { left++; return nil }}
	n := start(t, config)
	as := func(method, path, token string, headers ...string) answer {
		r, err := http.NewRequest(method, "http://"+n.address+path, strings.NewReader("x=1"))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("anybody", token)
		return n.ask(method, path, "x=1", append(headers, "Authorization", r.Header.Get("Authorization"))...)
	}
	for _, path := range []string{"/-/ui/", "/-/ui/live", "/-/ui/leave", "/-/ui/page.css"} {
		a := n.ask("GET", path, "", "Accept", "text/html")
		if a.StatusCode != 401 || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic realm=") || !strings.Contains(a.text, "<h2>Unauthorized</h2>") {
			t.Errorf("%s without a token: got %d, %v", path, a.StatusCode, a.Header)
		}
		if a := as("GET", path, "no-token-of-this-node"); a.StatusCode != 401 || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic realm=") {
			t.Errorf("%s with another token: got %d", path, a.StatusCode)
		}
	}
	if a := as("GET", "/-/ui/", "the-token-that-reads"); a.StatusCode != 200 || !strings.Contains(a.text, "--token-file FILE") {
		t.Errorf("the page for who may read: got %d", a.StatusCode)
	}
	if a := as("GET", "/-/ui/leave", "the-token-that-reads"); strings.Contains(a.text, "<form") || !strings.Contains(a.text, "takes one for admin") {
		t.Errorf("who may read is offered to act: %s", a.text)
	}
	if a := as("POST", "/-/ui/leave", "the-token-that-reads"); a.StatusCode != 403 || left != 0 {
		t.Errorf("who may read acts: got %d", a.StatusCode)
	}
	if a := as("POST", "/-/ui/leave", "the-token-for-admins"); a.StatusCode != 200 || left != 1 {
		t.Errorf("who may act: got %d", a.StatusCode)
	}
	if a := as("GET", "/foo", "the-token-for-admins"); a.StatusCode != 401 {
		t.Errorf("a password for a key: got %d, want 401: browsers send it by themselves", a.StatusCode)
	}
}

func TestWhatIsPlottedIsWhatWasAnswered(t *testing.T) {
	config, _ := fakes()
	config.History = new(ui.History)
	a := newAPI(config)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	tick := make(chan time.Time)
	go func() { a.sampleAt(ctx, tick); close(done) }()
	at := time.Now()
	tick <- at
	for range 10 {
		a.requests.Observe("GET", "/foo", 200, 800*time.Microsecond)
	}
	a.requests.Observe("PUT", "/foo", 503, 20*time.Millisecond)
	tick <- at.Add(ui.Step)
	tick <- at.Add(2 * ui.Step) // the one before is in
	cancel()
	<-done
	got := config.History.Samples()[1]
	if got.Reads != 2 || got.Writes != .2 || got.Failed != .2 || got.At != at.Add(ui.Step).Unix() ||
		got.ReadMost < .5 || got.ReadMost > 1 || got.WriteHalf < 10 || got.WriteHalf > 25 {
		t.Errorf("got %+v, want 2 reads of 0.5 to 1 ms and 0.2 writes, failed, of 10 to 25 ms", got)
	}
}
