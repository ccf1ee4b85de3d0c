package node

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A node that is drained takes part in everything that it is needed for, and says that others are to be chosen.
func TestDrainedNodeIsNotReadyAndServes(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := run(t, Config{Name: "a"})
	b := run(t, Config{Name: "b", Join: []string{a.Address()}})
	awaitStates(t, "2: alive alive", a, b)
	get := func(n *running, path string) *http.Response {
		t.Helper()
		response, err := http.Get("http://" + n.Address() + path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return response
	}
	watch := get(a, "/-/watch")
	if response := get(a, "/-/healthy"); response.Close {
		t.Error("before: the connection ends, want it kept")
	}

	if err := a.Drain(); err != nil {
		t.Fatal(err)
	}
	if got := a.ask(t, "GET", "/-/ready", ""); !strings.HasPrefix(got, "503") || !strings.Contains(got, "[-] staying: this node is drained;") {
		t.Errorf("ready: got %s, want 503 and why", got)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, watch.Body)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the watch ends with %v, want its end", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the watch goes on after 20 s, want it to end, so that it is begun elsewhere")
	}
	awaitStates(t, "2: draining alive", a, b)
	for _, step := range []struct {
		node                     *running
		method, path, body, want string
	}{
		{a, "PUT", "/foo?w=all", "bar", "201"},
		{b, "PUT", "/foo?w=all", "baz", "201"},
		{a, "GET", "/foo?r=all", "", "200 baz"},
		{b, "GET", "/foo?r=all", "", "200 baz"},
	} {
		if got := step.node.ask(t, step.method, step.path, step.body); got != step.want {
			t.Errorf("%s %s at %s: got %q, want %q", step.method, step.path, step.node.Name(), got, step.want)
		}
	}
	if response := get(a, "/-/healthy"); !response.Close {
		t.Error("the connection is kept, want it closed so that the next one is opened elsewhere")
	}

	if err := a.Undrain(); err != nil {
		t.Fatal(err)
	}
	awaitStates(t, "2: alive alive", a, b)
	if got := a.ask(t, "GET", "/-/ready", ""); !strings.HasPrefix(got, "200") {
		t.Errorf("ready after undrain: got %s, want 200", got)
	}
}

// What leaving needs is not called off by the way, and what was drained stays so when a node does not leave after all.
func TestDrainAndLeaveDoNotUndoEachOther(t *testing.T) {
	a := run(t, Config{Name: "a"})
	awaitStates(t, "1: alive", a)
	a.leaving.Store(true)
	if err := a.Undrain(); err != errLeaving {
		t.Errorf("undrain of a node that leaves: got %v, want %v", err, errLeaving)
	}
	if err := a.Drain(); err != nil {
		t.Fatal(err)
	}
	a.stay()
	awaitStates(t, "1: draining", a)
	if err := a.Undrain(); err != nil {
		t.Fatal(err)
	}
	a.leaving.Store(true)
	a.goAway()
	awaitStates(t, "1: draining", a)
	a.stay()
	awaitStates(t, "1: alive", a)
}
