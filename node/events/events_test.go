package events_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/node/events"
)

func texts(kept []events.Event) (texts []string) {
	for _, e := range kept {
		texts = append(texts, fmt.Sprintf("%d %s %s: %s %v", e.Number, e.Level, e.Part, e.What, e.Facts))
	}
	return texts
}

func TestWhatIsLoggedIsAnEventWhateverTheLevelOfTheLog(t *testing.T) {
	var out bytes.Buffer
	log := events.New()
	logger := log.Tee(hclog.New(&hclog.LoggerOptions{Name: "snakes", Output: &out, Level: hclog.Error}))
	logger.Info("began")
	member := logger.Named("membership").With("cluster", "c")
	member.Warn("member changed state", "node", "b", "seeds", "10.0.0.1")
	member.Debug("nothing of note")
	member.Trace("nothing at all")
	logger.Named("replication").Debug("pull is complete", "records", 7)
	logger.ResetNamed("disk").Error("disk failed", "error", errors.New("/data/journal: no"), "path", "/data", "odd")
	logger.Named("replication").Log(hclog.Error, "pull failed", "error", errors.New("refused"))
	kept, _ := log.After(0)
	want := []string{
		"1 info node: began map[]",
		"2 warn membership: member changed state map[cluster:c node:b]",
		"3 info replication: pull is complete map[records:7]",
		"4 error disk: disk failed map[]",
		"5 error replication: pull failed map[error:refused]",
	}
	if diff := cmp.Diff(want, texts(kept)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if got := bytes.Count(out.Bytes(), []byte("\n")); got != 2 {
		t.Errorf("the log has %d lines, want the 2 errors:\n%s", got, &out)
	}
	if kept, _ := log.After(4); len(kept) != 1 || kept[0].Number != 5 {
		t.Errorf("after 4: got %q", texts(kept))
	}
}

func TestTheLastEventsAreKeptAndWhoeverWaitsIsTold(t *testing.T) {
	log := events.New()
	logger := log.Tee(hclog.NewNullLogger())
	none, changed := log.After(0)
	if len(none) > 0 {
		t.Errorf("at first: got %q", texts(none))
	}
	for range events.Kept + 10 {
		logger.Info("x")
	}
	<-changed
	kept, changed := log.After(3)
	if len(kept) != events.Kept || kept[0].Number != 11 || kept[events.Kept-1].Number != events.Kept+10 {
		t.Errorf("got %d events from %d on", len(kept), kept[0].Number)
	}
	select {
	case <-changed:
		t.Error("told of an event that was not")
	default:
	}
}
