package node

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/node/events"
)

func TestEventsAreToldFromTheLastOneOfTheSameProcessOn(t *testing.T) {
	log := events.New()
	logger := log.Tee(hclog.NewNullLogger())
	logger.Warn("member changed state", "node", "b", "state", "failed")
	logger.Info("node has caught up")
	config, _ := fakes()
	config.Events, config.Origin, config.Heartbeat = log, 0xabc, 20*time.Millisecond
	n := start(t, config)
	ctx := within(t, time.Minute)
	r := n.open(ctx, "/-/events", "")
	first, _ := r.next()
	if first.id != "abc-1" || !strings.HasSuffix(first.data, `,"level":"warn","part":"node","what":"member changed state","facts":{"node":"b","state":"failed"}}`) {
		t.Errorf("first event: got %q with id %s", first, first.id)
	}
	r.next()
	time.AfterFunc(50*time.Millisecond, func() { logger.Info("third") })
	if e, _ := r.next(); e.id != "abc-3" || !strings.Contains(e.data, "third") || r.beats == 0 {
		t.Errorf("third event: got %q with id %s after %d heartbeats", e, e.id, r.beats)
	}
	for id, want := range map[string]string{"abc-2": "abc-3", "abd-2": "abc-1", "nonsense": "abc-1"} {
		if e, _ := n.open(ctx, "/-/events", id).next(); e.id != want {
			t.Errorf("after %s: got %s, want %s", id, e.id, want)
		}
	}
	if a := n.ask("GET", "/-/events?follow=0", ""); strings.Count(a.text, "\nid: ") != 3 {
		t.Errorf("what is kept: got %q", a.text)
	}
	if a := n.ask("GET", "/-/events?follow=2", ""); a.StatusCode != 400 || a.code(t) != "bad-parameter" {
		t.Errorf("bad follow: got %d", a.StatusCode)
	}
}
