package node

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// quieted returns a node's logger whose time only the test moves.
func quieted(level hclog.Level) (*lines, hclog.Logger, *time.Time) {
	out, log := logged(level)
	now := time.Unix(0, 0)
	q := newQuiet(log).(*quiet)
	q.repeats.now = func() time.Time { return now }
	return out, q, &now
}

func TestAFailureThatRepeatsItselfIsLoggedOnceAndThenCounted(t *testing.T) {
	out, log, now := quieted(hclog.Info)
	side := log.Named("http")
	fail := func() {
		side.Warn("request", "method", "PUT", "status", 503, "request_id", now.String(), "error", fmt.Errorf("read from 127.0.0.1:%d: reset", now.UnixNano()))
	}
	for range 5 {
		fail()
	}
	if got := out.take(t); len(got) != 1 || got[0]["repeated"] != nil {
		t.Errorf("five at once: got %v, want one line without a count", got)
	}
	for _, other := range []func(){
		func() { side.Warn("request", "method", "GET", "status", 503) },
		func() { side.Warn("request", "method", "PUT", "status", 507) },
		func() { side.Error("request", "method", "PUT", "status", 503) },
		func() { log.Named("disk").Warn("request", "method", "PUT", "status", 503) },
		func() { side.With("a", 1).Warn("other", "method", "PUT", "status", 503) },
		func() { side.Log(hclog.Warn, "pull", "node", "a") },
		func() { side.Log(hclog.Warn, "pull", "node", "b") },
		func() { side.Log(hclog.Warn, "pull", "node", "b", "error", errors.New("refused")) },
	} {
		other()
		if got := out.take(t); len(got) != 1 {
			t.Errorf("another failure: got %v, want a line", got)
		}
	}
	*now = now.Add(repeatTime - 1)
	fail()
	if got := out.take(t); len(got) != 0 {
		t.Errorf("a little later: got %v, want no line", got)
	}
	*now = now.Add(1)
	fail()
	if got := out.take(t); len(got) != 1 || got[0]["repeated"] != 5.0 {
		t.Errorf("when it goes on: got %v, want one line that tells of 5", got)
	}
	*now = now.Add(repeatTime)
	fail()
	if got := out.take(t); len(got) != 1 || got[0]["repeated"] != nil {
		t.Errorf("when it comes back: got %v, want one line without a count", got)
	}
	for range 3 {
		side.Info("member changed state")
	}
	if got := out.take(t); len(got) != 3 {
		t.Errorf("what is no failure: got %v, want all three", got)
	}
}

func TestAtDebugEverythingIsLogged(t *testing.T) {
	out, log, _ := quieted(hclog.Debug)
	for range 3 {
		log.Error("record is damaged", "key", "foo")
	}
	if got := out.take(t); len(got) != 3 || got[2]["key"] != "foo" {
		t.Errorf("got %v, want three lines with the key", got)
	}
}

func TestKeysAreLoggedAtDebugAlone(t *testing.T) {
	out, log, _ := quieted(hclog.Info)
	log.Error("record is damaged", "key", "Secret", "file", "keys/2c/Secret", "error", errors.New(`open data/keys/2c/Secret: input/output error`))
	log.Warn("leftover", "file", `C:\data\keys\2c\Secret.x`, "error", fmt.Errorf("state/roster: %w", errors.ErrUnsupported))
	log.Info("told", "key", "Secret", "number", 7)
	log.Debug("not written", "key", "Secret")
	got := out.take(t)
	if len(got) != 3 || got[0]["file"] != "keys/2c/..." || got[0]["error"] != "open data/keys/2c/...: input/output error" ||
		!strings.HasPrefix(fmt.Sprint(got[1]["error"]), "state/roster") || got[2]["number"] != 7.0 {
		t.Errorf("got %v, want three lines with all but the key", got)
	}
	if strings.Contains(fmt.Sprint(got), "Secret") {
		t.Errorf("got %v, want no key", got)
	}
}

func TestFailuresThatAreKnownAgainAreBounded(t *testing.T) {
	out, log, _ := quieted(hclog.Info)
	for i := range 3 * maxRepeats {
		log.Warn("request", "status", i)
	}
	if got := len(out.take(t)); got != 3*maxRepeats {
		t.Errorf("got %d lines, want %d", got, 3*maxRepeats)
	}
	if got := len(log.(*quiet).repeats.lines); got > maxRepeats {
		t.Errorf("got %d known, want %d at most", got, maxRepeats)
	}
}

func TestTheLogLevelIsChangedWhileTheNodeRuns(t *testing.T) {
	config, _ := fakes()
	out, log := logged(hclog.Info)
	config.Log = log.Named("http")
	n := start(t, config)
	if a := n.ask("GET", "/-/log-level", ""); a.StatusCode != 200 || a.text != "info\n" {
		t.Errorf("got %d %q, want 200 and info", a.StatusCode, a.text)
	}
	for body, want := range map[string]int{"loud": 400, "": 400, "off": 400, strings.Repeat("x", 100): 413} {
		if a := n.ask("PUT", "/-/log-level", body); a.StatusCode != want {
			t.Errorf("%.10q: got %d, want %d", body, a.StatusCode, want)
		}
	}
	out.take(t)
	if a := n.ask("PUT", "/-/log-level", "Debug\n"); a.StatusCode != 204 {
		t.Fatalf("got %d %s, want 204", a.StatusCode, a.text)
	}
	if !log.IsDebug() {
		t.Error("the loggers of other packages do not follow")
	}
	if got := out.take(t); len(got) == 0 || got[0]["@message"] != "log level changed" || got[0]["level"] != "debug" || got[0]["before"] != "info" {
		t.Errorf("got %v, want the change", got)
	}
	if a := n.ask("GET", "/-/log-level", ""); a.text != "debug\n" {
		t.Errorf("got %q, want debug", a.text)
	}
	if a := n.ask("POST", "/-/log-level", "info"); a.StatusCode != 405 {
		t.Errorf("POST: got %d, want 405", a.StatusCode)
	}
}

// newRequest returns a request as the server makes it.
func newRequest(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.RequestURI = target
	return r
}

func TestSlowRequestsAreWarnedOf(t *testing.T) {
	config, _ := fakes()
	out, log := logged(hclog.Info)
	config.Log = log
	a := newAPI(config)
	for _, row := range []struct {
		took  time.Duration
		quiet bool
		want  int
	}{{slow + time.Second, false, 1}, {slow + time.Second, true, 0}, {slow / 2, false, 0}} {
		a.logRequest(&response{status: 200, quiet: row.quiet}, newRequest(t, "GET", "/foo", ""), time.Now().Add(-row.took))
		if got := out.take(t); len(got) != row.want || row.want == 1 && (got[0]["@level"] != "warn" || got[0]["path"] != nil) {
			t.Errorf("%v, quiet: %t: got %v, want %d lines without the path", row.took, row.quiet, got, row.want)
		}
	}
}
