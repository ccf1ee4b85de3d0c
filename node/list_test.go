package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
)

func TestListAnswersAPage(t *testing.T) {
	config, coordinator := fakes()
	coordinator.list = func(span replication.Span, level replication.Level) (replication.Listing, replication.Receipt, error) {
		receipt := replication.Receipt{Acks: 2, N: 3, Missing: []string{"node-c"}}
		if span.Prefix == "none" {
			return replication.Listing{}, receipt, nil
		}
		return replication.Listing{
			Keys: []replication.Entry{
				{Key: "foo", Meta: replication.Meta{Version: someVersion(7), Size: 10}},
				{Key: fmt.Sprintf("%s.%s.%d.%v", span.Prefix, span.After, span.Limit, level), Meta: replication.Meta{Version: someVersion(8)}},
			},
			Next: "foo",
		}, receipt, nil
	}
	n := start(t, config)
	text := func(key string) string {
		return fmt.Sprintf(`{"keys":[{"key":"foo","etag":%s,"size":10},{"key":"%s","etag":%s,"size":0}],"next":"foo"}`+"\n",
			quoted(etag(someVersion(7))), key, quoted(etag(someVersion(8))))
	}
	for query, want := range map[string]string{
		"":                                    text("..100.default"),
		"?prefix=a&after=ab&limit=1&r=quorum": text("a.ab.1.quorum"),
		"?prefix=&after=&limit=1000&r=2":      text("..1000.2"),
		"?prefix=none":                        `{"keys":[],"next":""}` + "\n",
	} {
		a := n.ask("GET", "/-/keys"+query, "")
		if a.StatusCode != 200 || a.text != want || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("GET /-/keys%s: got %d %s, want %s", query, a.StatusCode, a.text, want)
		}
		if got, want := a.Header.Get("Snakes-Acks"), "2/3; missing=node-c"; got != want {
			t.Errorf("GET /-/keys%s: Snakes-Acks: got %q, want %q", query, got, want)
		}
	}
	if a := n.ask("HEAD", "/-/keys", ""); a.StatusCode != 200 || a.text != "" {
		t.Errorf("HEAD: got %d %q", a.StatusCode, a.text)
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func TestListRefusesWhatMakesNoSense(t *testing.T) {
	config, coordinator := fakes()
	coordinator.list = func(replication.Span, replication.Level) (replication.Listing, replication.Receipt, error) {
		return replication.Listing{}, replication.Receipt{N: 3, Acks: 1}, &replication.QuorumError{Op: "list", Need: 2, Alive: 1, Known: 3, Acks: 1}
	}
	n := start(t, config)
	for _, query := range []string{
		"limit=0", "limit=1001", "limit=-1", "limit=", "limit=x", "limit=99999999999999999999", "prefix=a-b", "after=%00", "r=0", "w=1",
		"prefix=a&prefix=b", "x=1",
	} {
		if a := n.ask("GET", "/-/keys?"+query, ""); a.StatusCode != 400 || a.code(t) != "bad-parameter" {
			t.Errorf("?%s: got %d, want 400 bad-parameter", query, a.StatusCode)
		}
	}
	if a := n.ask("GET", "/-/keys", ""); a.StatusCode != 503 || a.code(t) != "quorum" || a.Header.Get("Snakes-Acks") != "1/3" {
		t.Errorf("too few replicas: got %d, %q", a.StatusCode, a.Header.Get("Snakes-Acks"))
	}
}

func TestSpansAndStretchesTravelBetweenNodes(t *testing.T) {
	p := newPair(t)
	ctx := within(t, time.Minute)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching("[A-Za-z0-9]{0,255}")
		want := replication.Span{Prefix: text.Draw(t, "prefix"), After: text.Draw(t, "after"), Limit: rapid.IntRange(1, replication.MaxSpan).Draw(t, "limit")}
		told := replication.Stretch{More: rapid.Bool().Draw(t, "more"), Entries: []replication.Entry{}}
		for range rapid.IntRange(0, 5).Draw(t, "entries") {
			told.Entries = append(told.Entries, replication.Entry{Key: rapid.StringMatching("[A-Za-z0-9]{1,255}").Draw(t, "key"), Meta: drawMeta.Draw(t, "meta")})
		}
		p.replica.span = func(got replication.Span) (replication.Stretch, error) {
			if got != want {
				t.Errorf("span: got %+v, want %+v", got, want)
			}
			return told, nil
		}
		got, err := p.asking.Range(ctx, idB, want)
		if diff := cmp.Diff(told, got); diff != "" || err != nil {
			t.Fatalf("error %v, stretch (-want +got):\n%s", err, diff)
		}
	})
	for _, fails := range []error{replication.ErrNotReady, replication.ErrDamaged, replication.ErrBadSpan} {
		p.replica.span = func(replication.Span) (replication.Stretch, error) { return replication.Stretch{}, fails }
		if _, err := p.asking.Range(ctx, idB, replication.Span{Limit: 1}); !errors.Is(err, fails) {
			t.Errorf("got %v, want %v", err, fails)
		}
	}
}
