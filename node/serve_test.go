package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
)

// serve runs a node by Serve until the test ends, and returns the function that ends it and what Serve returned.
func serve(t *testing.T, cfg Config) (end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, cfg) }()
	end = func() error {
		cancel()
		select {
		case err := <-done:
			done <- err
			return err
		case <-time.After(30 * time.Second):
			return errors.New("Serve has not ended")
		}
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Errorf("serve %s: %v", cfg.Name, err)
		}
	})
	return end
}

// await returns once condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			t.Fatalf("no %q", what)
		}
	}
}

// What a removed node alone has may be older than deletes that nobody remembers any more.
func TestRemovedNodeJoinsAsANewOneAndBringsNothing(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := run(t, Config{Name: "a"})
	b := run(t, Config{Name: "b", Join: []string{a.Address()}})
	c := run(t, Config{Name: "c", Join: []string{a.Address()}})
	awaitStates(t, "3: alive alive alive", a, b, c)
	id, data := c.id, c.cfg.Data
	for _, n := range []*running{a, b, c} {
		n.stop(t)()
	}
	c = run(t, Config{Name: "c", Data: data})
	if got := c.ask(t, "PUT", "/only?w=1", "here"); got != "201" {
		t.Fatal(got)
	}
	c.stop(t)()
	a, b = run(t, Config{Name: "a", Data: a.cfg.Data, Port: a.port}), run(t, Config{Name: "b", Data: b.cfg.Data, Port: b.port})
	awaitStates(t, "3: alive alive failed", a, b)
	if got := a.ask(t, "DELETE", "/-/members/c", ""); got != "204" {
		t.Fatal(got)
	}

	end := serve(t, Config{Name: "c", Data: data})
	awaitStates(t, "3: alive alive alive", a, b)
	await(t, "settled relic", func() bool {
		found, err := filepath.Glob(filepath.Join(data, "aside", "*-removed", "settled"))
		return err == nil && len(found) == 1
	})
	if err := end(); err != nil {
		t.Errorf("serve: %v", err)
	}
	for _, n := range []*running{a, b} {
		if got := n.ask(t, "GET", "/only?r=1", ""); !strings.HasPrefix(got, "404 ") {
			t.Errorf("%s has what only the removed node had: %s", n.Name(), got)
		}
	}
	if found, err := filepath.Glob(filepath.Join(data, "aside", "*-removed", "keys", "*", "only")); err != nil || len(found) != 1 {
		t.Errorf("what only the removed node had: got %v, %v in the data set aside, want one file", found, err)
	}
	if got, err := os.ReadFile(filepath.Join(data, "node")); err != nil || strings.TrimSpace(string(got)) == id {
		t.Errorf("node id: got %s, %v, want another one", got, err)
	}
}

func TestServeEndsWithWhatEndsANode(t *testing.T) {
	a := run(t, Config{})
	if err := Serve(t.Context(), Config{Data: a.cfg.Data}); err == nil || !strings.Contains(err.Error(), a.cfg.Data) {
		t.Errorf("a directory in use: got %v", err)
	}
	var usage *UsageError
	if err := Serve(t.Context(), Config{Data: t.TempDir(), Port: -1}); !errors.As(err, &usage) {
		t.Errorf("a bad port: got %v, want a UsageError", err)
	}
	for _, err := range []error{membership.ErrTwin, errors.New("port is gone"), nil} {
		n := newNode(Config{})
		n.serves = true
		if n.end(err); n.aside != nil {
			t.Errorf("%v: data is set aside", err)
		}
	}
	n := newNode(Config{})
	n.serves = true
	n.leaving.Store(true)
	if n.end(membership.ErrRemoved); n.aside != nil {
		t.Error("a node that leaves sets its data aside; it is to end")
	}
}

// relicOf returns a node that is opened but does not run, with a relic of that many records under keys "old0", "old1",
// ..., of which the node has seen the first.
func relicOf(t *testing.T, reason string, records int) (*Node, disk.Relic) {
	t.Helper()
	dir := t.TempDir()
	store, err := disk.Open(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var old []replication.Record
	for i := range records {
		old = append(old, replication.Record{Key: fmt.Sprint("old", i), Version: someVersion(uint64(i + 1)), Value: []byte("old")})
	}
	for _, outcome := range store.Apply(old) {
		if outcome.Err != nil {
			t.Fatal(outcome.Err)
		}
	}
	if _, err := store.SetAside(disk.Aside{Reason: reason}); err != nil {
		t.Fatal(err)
	}
	n, err := Open(Config{Data: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	})
	if err := n.writeAgain(old[:1]); err != nil {
		t.Fatal(err)
	}
	relics, err := n.store.Asides()
	if err != nil || len(relics) != 1 {
		t.Fatalf("got relics %v, %v, want one", relics, err)
	}
	return n, relics[0]
}

func TestRecordsThatOnlyARelicHasAreWrittenAgainIfTheNodeWentBack(t *testing.T) {
	const records = relicRecords + 50 // more than are written at once
	for reason, want := range map[string]int{relicGoneBack: records, relicRemoved: 1} {
		n, relic := relicOf(t, reason, records)
		if err := n.settleRelic(relic); err != nil {
			t.Fatal(err)
		}
		if got := n.store.Len(); got != want {
			t.Errorf("%s: got %d keys, want %d", reason, got, want)
		}
		if relics, err := n.store.Asides(); err != nil || !relics[0].Settled {
			t.Errorf("%s: got %v, %v, want it settled", reason, relics, err)
		}
	}
}

func TestNothingIsWrittenAgainOfANodeThatWasRemovedSince(t *testing.T) {
	var got []string
	for _, relic := range inEffect([]disk.Relic{{Reason: relicGoneBack}, {Reason: relicRemoved}, {Reason: relicGoneBack}}) {
		got = append(got, relic.Reason)
	}
	if want := []string{relicRemoved, relicRemoved, relicGoneBack}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestARelicIsNotSettledBeforeItsRecordsAreWritten(t *testing.T) {
	n, relic := relicOf(t, relicGoneBack, 3)
	full := errors.New("no room")
	n.coordinator.Replica().Freeze(full)
	if err := n.settleRelic(relic); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	if relics, err := n.store.Asides(); err != nil || relics[0].Settled {
		t.Errorf("got %v, %v, want it not settled", relics, err)
	}
}

func TestADamagedRecordOfARelicHoldsNobodyUp(t *testing.T) {
	n, relic := relicOf(t, relicGoneBack, 3)
	files, err := filepath.Glob(filepath.Join(n.cfg.Data, relic.Path, "keys", "*", "old1"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got %v, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.settleRelic(relic); err != nil {
		t.Error(err)
	}
	if got := n.store.Len(); got != 2 {
		t.Errorf("got %d keys, want the 2 that can be read", got)
	}
}

func TestWhoCannotLeaveOrNeedsNoRepairIsToldWhy(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	joining := run(t, Config{Join: []string{"127.0.0.1:1"}})
	if err := errors.Join(joining.Leave(), joining.AcceptLoss()); !errors.Is(err, replication.ErrNotReady) {
		t.Errorf("while joining: got %v, want ErrNotReady", err)
	}
	if err := joining.Leave(); !strings.Contains(fmt.Sprint(err), "in no cluster yet, so there is nothing to leave") {
		t.Errorf("leave while joining: got %v, want that there is nothing to leave", err)
	}
	alone := run(t, Config{})
	if err := alone.Leave(); !errors.Is(err, membership.ErrLastMember) {
		t.Errorf("the last member: got %v, want ErrLastMember", err)
	}
	await(t, "synced", alone.syncer.Synced)
	if err := alone.AcceptLoss(); !errors.Is(err, errSynced) {
		t.Errorf("repair of a synced node: got %v, want errSynced", err)
	}
	if got := alone.ask(t, "PUT", "/foo", "bar"); got != "201" {
		t.Errorf("put: got %q, want 201 as before", got)
	}
}
