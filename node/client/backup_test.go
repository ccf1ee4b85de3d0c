package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/protocol7/snakes/node/client"
)

func TestBackupIsAStreamFromTheNextServerThatAnswers(t *testing.T) {
	large := strings.Repeat("backup", 1<<20)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.RequestURI != "/-/backup" {
			t.Errorf("got %s %s", r.Method, r.RequestURI)
		}
		w.Header().Set("Snakes-Acks", "2/3; missing=c")
		_, _ = io.WriteString(w, large)
	})
	// What a value may have at most does not matter for a backup.
	c := configured(t, client.Config{Servers: []string{refusing(t), url}, MaxValue: 100})
	body, receipt, err := c.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil || string(got) != large {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if want := (client.Receipt{Acks: 2, N: 3, Missing: []string{"c"}, Node: "a"}); !cmp.Equal(receipt, want) {
		t.Errorf("got receipt %+v, want %+v", receipt, want)
	}
}

func TestBackupThatIsRefusedOrOfSomethingElseIsAnError(t *testing.T) {
	refused := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"type":"urn:snakes:error:quorum","title":"Quorum not met","detail":"Two are away.","node":"a","request_id":"r"}`)
	})
	if _, _, err := newClient(t, refused).Backup(t.Context()); !errors.Is(err, client.ErrQuorum) {
		t.Errorf("refused: got %v, want ErrQuorum", err)
	}
	other := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Del("Snakes-Node") })
	if _, _, err := newClient(t, other).Backup(t.Context()); !errors.Is(err, client.ErrNotSnakes) {
		t.Errorf("another program: got %v, want ErrNotSnakes", err)
	}
	if _, _, err := newClient(t, refusing(t)).Backup(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("nobody: got %v, want ErrUnreachable", err)
	}
}

func TestRestoreSendsTheBackupAndReadsTheCounts(t *testing.T) {
	var got seen
	const answer = `{"cluster":"snakes","node":"b","time":"2026-11-22T12:00:00Z","keys":4,"deletions":5,"bytes":6,"written":1,"present":2,` +
		`"newer":3,"forgotten":2,"skipped":1,"dry_run":true,"as_new":true}` + "\n"
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = seen{r.Method, r.RequestURI, r.Header.Get("Expect"), string(body)}
		_, _ = io.WriteString(w, answer)
	})
	// The first server hangs up; a body that can seek goes to the next one from its beginning, and so does one of which
	// nothing was read.
	for name, row := range map[string]struct {
		first string
		body  io.Reader
	}{"seeks": {hangingUp(t), strings.NewReader("backup")}, "unread": {refusing(t), bytes.NewBufferString("backup")}} {
		counts, err := newClient(t, row.first, url).Restore(t.Context(), row.body, client.RestoreOptions{DryRun: true, AsNew: true})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := client.Restored{
			Cluster: "snakes", Node: "b", Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Keys: 4, Deletions: 5, Bytes: 6,
			Written: 1, Present: 2, Newer: 3, Forgotten: 2, Skipped: 1, DryRun: true, AsNew: true, Body: []byte(answer),
		}
		if diff := cmp.Diff(want, counts); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
		if want := (seen{"POST", "/-/restore?as-new=1&dry-run=1", "100-continue", "backup"}); got != want {
			t.Errorf("%s: asked %+v, want %+v", name, got, want)
		}
	}
}

// readers of what was half sent: the next server would get the rest only.
type unseekable struct{ io.Reader }

func TestRestoreSendsNoHalfBackupToTheNextServer(t *testing.T) {
	reads := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 1))
		panic(http.ErrAbortHandler)
	})
	next := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the next server was asked") })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	body := unseekable{strings.NewReader(strings.Repeat("backup", 1<<20))}
	_, err := newClient(t, reads, next).Restore(ctx, body, client.RestoreOptions{})
	if !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), "was read already") {
		t.Errorf("got %v, want ErrUnreachable and why the next one was not asked", err)
	}
}

func TestRestoreGoesToTheNextServerIfOneIsNotReady(t *testing.T) {
	stops := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"type":"urn:snakes:error:not-ready","title":"Node is stopping","detail":"Ask another.","node":"a","request_id":"r"}`)
	})
	got := ""
	next := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = string(body)
		fmt.Fprint(w, `{"written":1}`)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	counts, err := newClient(t, stops, next).Restore(ctx, unseekable{strings.NewReader("backup")}, client.RestoreOptions{})
	if err != nil || counts.Written != 1 || got != "backup" {
		t.Errorf("got %+v, %v, and the next server %q, want the whole backup there", counts, err, got)
	}
	if _, err := newClient(t, stops).Restore(ctx, strings.NewReader("backup"), client.RestoreOptions{}); !errors.Is(err, client.ErrNotReady) {
		t.Errorf("nobody is ready: got %v, want ErrNotReady", err)
	}
}

func TestRestoreThatIsRefusedSendsNothing(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"type":"urn:snakes:error:forbidden","title":"Forbidden","detail":"No.","node":"a","request_id":"r"}`)
	})
	body := strings.NewReader("backup")
	_, err := newClient(t, url).Restore(t.Context(), body, client.RestoreOptions{})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "forbidden" {
		t.Errorf("got %v, want forbidden", err)
	}
	if body.Len() != len("backup") {
		t.Errorf("%d bytes were read of what the node did not want", len("backup")-body.Len())
	}
}
