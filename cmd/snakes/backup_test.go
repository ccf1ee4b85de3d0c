package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/node/backup"
	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	versions "github.com/protocol7/snakes/replication/version"
)

// aBackup is a whole one with a value of so many bytes.
func aBackup(t *testing.T, size int) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := backup.NewWriter(&file, backup.Header{Cluster: "snakes", Node: "a"}, new(seen.Set))
	if err != nil {
		t.Fatal(err)
	}
	v := versions.Version{Timestamp: versions.Timestamp{Wall: 1}, Dot: versions.Dot{Origin: 1, Counter: 1}}
	if err := w.Write(replication.Record{Key: "foo", Version: v, Value: make([]byte, size)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(new(seen.Set)); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// names returns what is in a directory.
func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestBackupThatIsNotWholeIsNotSaved(t *testing.T) {
	whole := aBackup(t, 1<<20)
	flipped := bytes.Clone(whole)
	flipped[1<<19] ^= 1
	for name, sent := range map[string]func(w http.ResponseWriter){
		"cut by the node": func(w http.ResponseWriter) { _, _ = w.Write(whole[:1<<19]); panic(http.ErrAbortHandler) },
		"cut on its way":  func(w http.ResponseWriter) { _, _ = w.Write(whole[:len(whole)-1]) },
		"flipped":         func(w http.ResponseWriter) { _, _ = w.Write(flipped) },
		"of another kind": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>") },
	} {
		url := fake(t, func(w http.ResponseWriter, _ *http.Request) { sent(w) })
		dir := t.TempDir()
		file := filepath.Join(dir, "keys.backup")
		got := runHere(t.Context(), nil, "backup", file, "--server", url)
		if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "backup: what came is not saved: not a whole backup: at byte ") {
			t.Errorf("%s: got %+v, want exit code 1 and why", name, got)
		}
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("%s: left %q", name, left)
		}
		// What was there before stays.
		if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		got = runHere(t.Context(), nil, "backup", file, "--server", url, "--yes")
		if text, err := os.ReadFile(file); got.code != 1 || err != nil || string(text) != "before" || len(names(t, dir)) != 1 {
			t.Errorf("%s: got %+v, and %q, %v is there", name, got, text, err)
		}
	}
}

func TestBackupSaysWhoIsMissingAndReplacesWhatALinkPointsTo(t *testing.T) {
	whole := aBackup(t, 10)
	url := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Snakes-Acks", "2/3; missing=c")
		_, _ = w.Write(whole)
	})
	dir := t.TempDir()
	file, link := filepath.Join(dir, "keys.backup"), filepath.Join(dir, "last.backup")
	if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Skip(err)
	}
	got := runHere(t.Context(), nil, "backup", link, "--server", url, "--yes")
	if got.code != 0 || got.stderr != "done by 2 of 3 members; missing: c\n" {
		t.Errorf("got %+v", got)
	}
	text, err := os.ReadFile(file)
	if info, linked := os.Lstat(link); err != nil || linked != nil || !bytes.Equal(text, whole) || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link does not point to the backup any more, or that is not what came: %v, %v", err, linked)
	}
}

// hanging is a server that sends or takes something and then nothing, until the end of the test.
func hanging(t *testing.T, first func(w http.ResponseWriter, r *http.Request)) string {
	t.Helper()
	end := make(chan struct{})
	url := fake(t, func(w http.ResponseWriter, r *http.Request) {
		first(w, r)
		<-end
	})
	t.Cleanup(func() { close(end) })
	return url
}

func TestBackupAndRestoreEndWhenNothingMoves(t *testing.T) {
	whole := aBackup(t, 64<<20)
	file := filepath.Join(t.TempDir(), "keys.backup")
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	begins := hanging(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(whole[:1000])
		_ = http.NewResponseController(w).Flush()
	})
	takes := hanging(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = r.Body.Read(make([]byte, 1)) })
	silent := hanging(t, func(http.ResponseWriter, *http.Request) {})
	for _, args := range [][]string{
		{"backup", filepath.Join(t.TempDir(), "new"), "--server", begins},
		{"backup", filepath.Join(t.TempDir(), "new"), "--server", silent},
		{"restore", file, "--server", takes},
		{"restore", file, "--server", silent},
	} {
		got := runHere(t.Context(), nil, append(args, "--timeout", "300ms")...)
		if got.code == 0 || !strings.Contains(got.stderr, "nothing has moved for 300ms; --timeout waits longer") {
			t.Errorf("%v: got %+v", args, got)
		}
	}
}

// A slow pipe is no reason to give up on the server.
func TestRestoreWaitsForItsInput(t *testing.T) {
	url := fake(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"keys":1,"written":1}`)
	})
	in, out := io.Pipe()
	go func() {
		for _, part := range []string{"a", "b"} {
			time.Sleep(600 * time.Millisecond) // longer than the patience with the server
			_, _ = io.WriteString(out, part)
		}
		_ = out.Close()
	}()
	got := runHere(t.Context(), in, "restore", "-", "--server", url, "--timeout", "300ms")
	if want := (result{0, "restored 1 of 1 record: 0 there already, 0 have something newer\n", ""}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWhatARestoreDidIsSaidInWords(t *testing.T) {
	for want, r := range map[string]client.Restored{
		"restored 2 of 7 records: 1 there already, 3 have something newer, 1 deleted since": {Keys: 5, Deletions: 2, Written: 2, Present: 1, Newer: 3, Forgotten: 1},
		"would restore 1 of 1 record: 0 there already, 0 have something newer":              {Keys: 1, Written: 1, DryRun: true},
		"restored 1 of 3 records as new: 1 have that value already, 1 deletion left out":    {Keys: 2, Deletions: 1, Written: 1, Present: 1, Skipped: 1, AsNew: true},
	} {
		if got := outcome(r); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
