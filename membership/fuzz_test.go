package membership

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/protocol7/snakes/membership/roster"
)

// FuzzNews tells a member whatever another node may send: by gossip, in a merged state, and as a message that asks for
// consent. It must not panic, must go on telling what others take, and what it saved must open again.
func FuzzNews(f *testing.F) {
	seed := func(v any) {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	other := info{Name: "node-6", Address: "127.0.0.1:9006", At: 3}
	grown, err := roster.Found(nodeID("5")).With(roster.Change{Add: nodeID("6")})
	if err != nil {
		f.Fatal(err)
	}
	told := news{roster.Knowledge{Roster: grown, Learners: []string{nodeID("7")}}, map[string]info{nodeID("6"): other}}
	seed(other)
	seed(told)
	seed(message{News: &told})
	seed(message{Stopping: &other})
	seed(message{Agree: &roster.Message{From: told.Knowledge, Base: grown.Hash(), Ballot: roster.Ballot{Round: 1, Node: nodeID("6")}}})
	seed(message{Ping: true})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, _ := alone(t, "127.0.0.1:9006") // which did not found a cluster of its own
		if err := m.ledger.Join(roster.Roster{}, roster.Found(nodeID("5"))); err != nil {
			t.Fatal(err)
		}
		m.hears("6", info{}, time.Now())
		gossip{m}.note(&memberlist.Node{Name: nodeID("6"), Meta: b}, true)
		gossip{m}.MergeRemoteState(b, false)
		_ = m.Merge(b) // whatever it makes of it
		_, _ = m.Consent(t.Context(), Hello{ID: nodeID("6"), Address: "127.0.0.1:9006", Origin: 6}, b)
		m.Snapshot()

		again, err := New(m.cfg)
		if err != nil {
			t.Fatalf("what it saved does not open: %v", err)
		}
		if err := again.Merge(m.State()); err != nil {
			t.Fatalf("others do not take what it tells: %v", err)
		}
	})
}
