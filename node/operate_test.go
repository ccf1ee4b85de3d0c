package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
)

func TestOperationsAnswerWhatWillHappenOrWhyNot(t *testing.T) {
	config, _ := fakes()
	var fails error
	var called []string
	operation := func(name string) func() error {
		return func() error {
			called = append(called, name)
			if fails != nil {
				return fmt.Errorf("wrapped: %w", fails)
			}
			return nil
		}
	}
	config.Operations = &fakeOperations{leave: operation("leave"), acceptLoss: operation("repair"), drain: operation("drain"), undrain: operation("undrain")}
	n := start(t, config)
	minority := refuse(&replication.QuorumError{Op: "leave", Need: 2, Alive: 1, Known: 3, Written: replication.WrittenNo}, "One of three.")
	for _, row := range []struct {
		path   string
		fails  error
		status int
		code   string // of a problem, or empty
		called string
		text   string
	}{
		{"leave", nil, 202, "", "leave", `{"id":"` + idA + `","name":"node-a","detail":"This node takes no more writes.`},
		{"leave", membership.ErrLastMember, 409, "conflict", "leave", "This is the only member"},
		{"leave", minority, 503, "quorum", "leave", `"detail":"One of three.",`},
		{"leave", minority, 503, "quorum", "leave", `"need":2,"alive":1,"known":3,"acks":0,"written":false}`},
		{"leave", refuse(errTooFewStay, "One of two."), 409, "conflict", "leave", `"detail":"One of two.",`},
		{"leave", membership.ErrNotMember, 409, "conflict", "leave", "Stop it, and then forget it"},
		{"leave", replication.ErrNotReady, 503, "not-ready", "leave", ""},
		{"leave?force=1", nil, 400, "bad-parameter", "", ""},
		{"drain", nil, 202, "", "drain", `{"id":"` + idA + `","name":"node-a","detail":"This node is not ready from now on`},
		{"drain?now=1", nil, 400, "bad-parameter", "", ""},
		{"undrain", nil, 202, "", "undrain", "may choose this node again"},
		{"undrain", errLeaving, 409, "conflict", "undrain", "only stopping it calls off"},
		{"undrain?w=1", nil, 400, "bad-parameter", "", ""},
		{"repair?accept-loss=1", nil, 202, "", "repair", `{"id":"` + idA + `","name":"node-a","detail":"This node goes on without`},
		{"repair", nil, 400, "bad-parameter", "", "what only others had is lost"},
		{"repair?accept-loss=0", nil, 400, "bad-parameter", "", "?accept-loss=1"},
		{"repair?accept-loss", nil, 400, "bad-parameter", "", "?accept-loss=1"},
		{"repair?accept-loss=1", errSynced, 409, "conflict", "repair", "nothing to repair"},
		{"repair?accept-loss=1", replication.ErrNotReady, 503, "not-ready", "repair", ""},
	} {
		fails, called = row.fails, nil
		a := n.ask("POST", "/-/"+row.path, "")
		if a.StatusCode != row.status || !strings.Contains(a.text, row.text) {
			t.Errorf("%s with %v: got %d %s, want %d with %s", row.path, row.fails, a.StatusCode, a.text, row.status, row.text)
		}
		if row.code != "" && a.code(t) != row.code {
			t.Errorf("%s with %v: got %s, want %s", row.path, row.fails, a.text, row.code)
		}
		if got := strings.Join(called, " "); got != row.called {
			t.Errorf("%s: called %q, want %q", row.path, got, row.called)
		}
	}
}
