package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	format "github.com/protocol7/snakes/node/backup"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
	"github.com/protocol7/snakes/test/cluster"
)

// command runs a client command against a node, unless that is nil, and returns what it wrote to standard output and error, and its exit code.
func command(t *testing.T, n *cluster.Node, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if n != nil {
		args = append(args, "--server", "http://"+n.Addr())
	}
	cmd := exec.CommandContext(ctx, cluster.Binary(t), args...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("snakes %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), words.String(), cmd.ProcessState.ExitCode()
}

// does is command that must exit with 0; it returns standard output.
func does(t *testing.T, n *cluster.Node, args ...string) string {
	t.Helper()
	stdout, stderr, code := command(t, n, args...)
	if code != 0 {
		t.Fatalf("snakes %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// saved is what verify tells of a backup.
type saved struct {
	Keys      int    `json:"keys"`
	Deletions int    `json:"deletions"`
	Digest    string `json:"digest"`
}

// backup saves a backup that n makes, and returns where it is and what is in it.
func backup(t *testing.T, n *cluster.Node) (file string, s saved) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "keys.backup")
	does(t, n, "backup", file)
	must(t, json.Unmarshal([]byte(does(t, nil, "verify", file, "-o", "json")), &s))
	return file, s
}

// wantRestored restores a backup at n and compares what that says.
func wantRestored(t *testing.T, n *cluster.Node, want string, args ...string) {
	t.Helper()
	if got := does(t, n, append([]string{"restore"}, args...)...); got != want+"\n" {
		t.Errorf("snakes restore %s: got %q, want %q", strings.Join(args, " "), got, want)
	}
}

// writing writes numbers to keys of its own until it is told to end.
type writing struct {
	mu           sync.Mutex // guards acknowledged
	acknowledged acknowledged
	stop         context.CancelFunc
	running      sync.WaitGroup
}

// acknowledged is what was: the last number of each key, 0 for one that was deleted for good.
type acknowledged map[string]int

// write begins with so many writers, spread over the nodes.
func write(t *testing.T, writers int, nodes ...*cluster.Node) *writing {
	ctx, stop := context.WithCancel(t.Context())
	w := &writing{acknowledged: make(acknowledged), stop: stop}
	t.Cleanup(func() { stop(); w.running.Wait() })
	for i := range writers {
		n := nodes[i%len(nodes)]
		w.running.Go(func() {
			for number := 1; ctx.Err() == nil; number++ {
				key := fmt.Sprintf("w%dx%d", i, number%20)
				if n.Put(key, strconv.Itoa(number)).Status == 201 {
					w.note(key, number)
				}
				key = fmt.Sprintf("d%dx%d", i, number)
				if number%7 == 0 && n.Put(key, "x").Status == 201 && n.Delete(key).Status == 204 {
					w.note(key, 0)
				}
			}
		})
	}
	return w
}

func (w *writing) note(key string, number int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acknowledged[key] = number
}

// now returns what was acknowledged until now.
func (w *writing) now() acknowledged {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.acknowledged)
}

// end ends it, and returns what was acknowledged.
func (w *writing) end() acknowledged {
	w.stop()
	w.running.Wait()
	return w.now()
}

// isAt returns nil if n itself has all of that, or what was written later.
func (a acknowledged) isAt(n *cluster.Node) error {
	for key, least := range a {
		got := n.Get(key + "?r=1")
		if least == 0 {
			if err := got.Expect(404); err != nil {
				return fmt.Errorf("%s was deleted: %w", key, err)
			}
			continue
		}
		if number, err := strconv.Atoi(got.Body); got.Status != 200 || err != nil || number < least {
			return fmt.Errorf("%s: %s, want %d or a later number", key, got, least)
		}
	}
	return nil
}

// wipe ends all nodes and has them begin anew, with empty directories, at the same addresses.
func wipe(c *cluster.Cluster) {
	for _, n := range c.Nodes() {
		n.Kill()
		n.Wipe()
	}
	c.Start()
}

// Writes go on while a backup is made; then all disks are lost, and the backup brings back what was there.
func TestBackupBringsBackAClusterThatLostEverything(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	fill(t, "kept", 200, 0, c.Nodes()...)
	must(t, c.Node(0).Do("PUT", "/picture", "\x89PNG", "Content-Type: image/png").Expect(201))
	fill(t, "gone", 20, 0, c.Nodes()...)
	fill(t, "gone", 0, 20, c.Nodes()...)
	w := write(t, 6, c.Nodes()...)
	c.Await(20*time.Second, "some writes", func() error {
		if got := len(w.now()); got < 100 {
			return fmt.Errorf("%d keys were written", got)
		}
		return nil
	})
	before := w.now()
	amongWrites, _ := backup(t, c.Node(1))
	last := w.end()
	c.AwaitConverged(10 * time.Second)
	wantDigest, err := c.Node(0).Digest()
	must(t, err)
	atRest, s := backup(t, c.Node(2))
	if s.Digest != wantDigest.Digest || s.Keys != wantDigest.Keys || s.Deletions < 20 {
		t.Errorf("backup: got %+v, want the digest and the keys of %+v, and the deletions", s, wantDigest)
	}

	wipe(c)
	does(t, c.Node(0), "restore", amongWrites)
	c.AwaitConverged(10 * time.Second)
	must(t, before.isAt(c.Node(2)))

	wipe(c)
	wantRestored(t, c.Node(1), fmt.Sprintf("restored %d of %d records: 0 there already, 0 have something newer", s.Keys+s.Deletions, s.Keys+s.Deletions), atRest)
	for _, n := range c.Nodes() {
		c.Await(10*time.Second, "the digest of before", func() error {
			got, err := n.Digest()
			if err == nil && (got.Digest != wantDigest.Digest || got.Keys != wantDigest.Keys) {
				err = fmt.Errorf("%s has digest %s of %d keys, want %s of %d", n, got.Digest, got.Keys, wantDigest.Digest, wantDigest.Keys)
			}
			return err
		})
	}
	must(t, last.isAt(c.Node(0)))
	if got := c.Node(2).Get("picture?r=1"); got.Body != "\x89PNG" || got.Header.Get("Content-Type") != "image/png" {
		t.Errorf("got %s of type %s", got, got.Header.Get("Content-Type"))
	}
	c.Await(10*time.Second, "the deletions", func() error { return hasTombstones(s.Deletions, c.Nodes()...) })

	// Again, and by another node: there is nothing to do, and nothing changes.
	wantRestored(t, c.Node(0), fmt.Sprintf("restored 0 of %d records: %d there already, 0 have something newer", s.Keys+s.Deletions, s.Keys+s.Deletions), atRest)
	// All have seen the same, without gaps for what was overwritten.
	c.Await(10*time.Second, "equal seen sets", func() error {
		first, err := c.Node(0).Digest()
		if err != nil {
			return err
		}
		for _, n := range c.Nodes() {
			d, err := n.Digest()
			if err != nil {
				return err
			}
			if fmt.Sprint(d.Seen) != fmt.Sprint(first.Seen) {
				return fmt.Errorf("%s has seen %v, %s %v", n, d.Seen, c.Node(0), first.Seen)
			}
		}
		return nil
	})
	must(t, c.Node(0).Put("after", "a write").Expect(201))
	must(t, c.Node(1).Delete("kept1").Expect(204))
	c.AwaitConverged(10 * time.Second)
}

// What was deleted after a backup stays deleted, when nobody has a trace of it any more, too; what is newer stays.
func TestRestoreKeepsWhatIsNewerAndWhatWasDeleted(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 3, Args: soonForgotten})
	c.Start()
	fill(t, "gone", deletedKeys, 0, c.Nodes()...)
	fill(t, "kept", 10, 0, c.Nodes()...)
	must(t, c.Node(0).Put("changed", "before").Expect(201))
	file, s := backup(t, c.Node(0))
	total := s.Keys + s.Deletions

	fill(t, "gone", 0, deletedKeys, c.Nodes()...)
	must(t, c.Node(1).Put("changed", "after").Expect(201))
	// Some may be forgotten already.
	if got, want := does(t, c.Node(1), "restore", file), fmt.Sprintf("restored 0 of %d records: 10 there already, ", total); !strings.HasPrefix(got, want) {
		t.Errorf("snakes restore: got %q, want %q...", got, want)
	}
	must(t, areGone(c.Nodes()...))

	c.Await(30*time.Second, "no tombstone", func() error { return hasTombstones(0, c.Nodes()...) })
	forgotten := fmt.Sprintf("of %d records: 10 there already, 1 have something newer, %d deleted since", total, deletedKeys)
	wantRestored(t, c.Node(2), "would restore 0 "+forgotten, file, "--dry-run")
	wantRestored(t, c.Node(2), "restored 0 "+forgotten, file)
	must(t, areGone(c.Nodes()...))
	must(t, c.Node(0).Get("changed?r=1").Expect(200, "after"))
	c.AwaitConverged(5 * time.Second)
}

// A cluster that has an older state of a key learns of its deletion.
func TestRestoreDeletesWhatTheBackupKnowsAsDeleted(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	fill(t, "gone", deletedKeys, 0, c.Nodes()...)
	old, _ := backup(t, c.Node(0))
	fill(t, "gone", 0, deletedKeys, c.Nodes()...)
	recent, _ := backup(t, c.Node(0))

	wipe(c)
	wantRestored(t, c.Node(0), fmt.Sprintf("restored %[1]d of %[1]d records: 0 there already, 0 have something newer", deletedKeys), old)
	must(t, c.Node(2).Get("gone0?r=1").Expect(200, "value of gone0"))
	wantRestored(t, c.Node(1), fmt.Sprintf("restored %[1]d of %[1]d records: 0 there already, 0 have something newer", deletedKeys), recent)
	must(t, areGone(c.Nodes()...))
	wantRestored(t, c.Node(2), fmt.Sprintf("restored 0 of %[1]d records: 0 there already, %[1]d have something newer", deletedKeys), old)
	must(t, areGone(c.Nodes()...))
	c.AwaitConverged(5 * time.Second)

	// What was restored of deletions goes like any other, and older backups bring nothing back then either.
	for _, n := range c.Nodes() {
		n.Args = soonForgotten
	}
	wipe(c)
	does(t, c.Node(2), "restore", recent)
	c.Await(30*time.Second, "no tombstone", func() error { return hasTombstones(0, c.Nodes()...) })
	wantRestored(t, c.Node(1), fmt.Sprintf("restored 0 of %[1]d records: 0 there already, 0 have something newer, %[1]d deleted since", deletedKeys), old)
	must(t, areGone(c.Nodes()...))
}

// largeBackup writes a backup of so many keys, as another cluster may have made it.
func largeBackup(t *testing.T, keys int) (file string, digest string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "large.backup")
	to, err := os.Create(file)
	must(t, err)
	buffered := bufio.NewWriter(to)
	w, err := format.NewWriter(buffered, format.Header{Cluster: "another", Node: "n", Time: time.Now()}, new(seen.Set))
	for i := 0; i < keys && err == nil; i++ {
		v := version.Version{Timestamp: version.Timestamp{Wall: int64(i + 1)}, Dot: version.Dot{Origin: 7, Counter: uint64(i + 1)}}
		err = w.Write(replication.Record{Key: fmt.Sprintf("key%09d", i), Version: v, ContentType: "text/plain", Value: bytes.Repeat([]byte("v"), 100)})
	}
	must(t, err)
	trailer, err := w.Close(seen.Of(version.Dot{Origin: 7, Counter: 1}))
	must(t, errors.Join(err, buffered.Flush(), to.Close()))
	return file, trailer.Digest
}

// The node that restores is killed on the way. What it had written stays, and another try brings the rest.
func TestRestoreThatWasInterruptedIsRepeated(t *testing.T) {
	t.Parallel()
	const keys = 30_000
	c := cluster.Start(t, 3)
	file, digest := largeBackup(t, keys)
	n := c.Node(0)
	ended := make(chan int, 1)
	go func() {
		cmd := exec.Command(cluster.Binary(t), "restore", file, "--server", n.Addr())
		_ = cmd.Run() // the exit code says all
		ended <- cmd.ProcessState.ExitCode()
	}()
	c.Await(20*time.Second, "some keys", func() error {
		d, err := c.Node(1).Digest()
		if err == nil && d.Keys < 1000 {
			err = fmt.Errorf("%d keys", d.Keys)
		}
		return err
	})
	n.Kill()
	if code := <-ended; code == 0 {
		t.Error("the restore ended as if it were done")
	}
	n.Start()
	c.AwaitMembers(20 * time.Second)
	before, err := n.Digest()
	must(t, err)
	if before.Keys >= keys {
		t.Fatalf("it was done before the node was killed")
	}
	does(t, c.Node(2), "restore", file)
	for _, n := range c.Nodes() {
		c.Await(20*time.Second, "all keys", func() error {
			d, err := n.Digest()
			if err == nil && d.Digest != digest {
				err = fmt.Errorf("%s has digest %s of %d keys, want %s", n, d.Digest, d.Keys, digest)
			}
			return err
		})
	}
}

func TestDamagedBackupIsRefusedAndNothingOfItIsApplied(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	fill(t, "kept", 50, 0, c.Nodes()...)
	file, _ := backup(t, c.Node(0))
	whole, err := os.ReadFile(file)
	must(t, err)
	wipe(c)
	bad := filepath.Join(t.TempDir(), "bad.backup")
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-300] ^= 0x10
	for name, text := range map[string][]byte{"cut": whole[:len(whole)-1], "flipped": flipped, "empty": nil} {
		must(t, os.WriteFile(bad, text, 0o600))
		for _, args := range [][]string{{"verify", bad}, {"restore", bad, "--server", c.Node(0).Addr()}} {
			if _, stderr, code := command(t, nil, args...); code != 1 || !strings.Contains(stderr, "not a whole backup") {
				t.Errorf("%s: snakes %s: exit code %d, %s, want 1 and that it is not whole", name, args[0], code, stderr)
			}
		}
		for _, n := range c.Nodes() {
			if d, err := n.Digest(); err != nil || d.Keys != 0 || len(d.Seen) > 0 {
				t.Fatalf("%s: %s has %d keys and has seen %v, %v, want nothing", name, n, d.Keys, d.Seen, err)
			}
		}
		// The node that is given it directly refuses it as well.
		_, err := c.Node(1).Do(http.MethodPost, "/-/restore?dry-run=1", string(text)).ExpectProblem(400, "bad-backup")
		must(t, err)
	}
	total := "50 of 50 records: 0 there already, 0 have something newer"
	wantRestored(t, c.Node(0), "would restore "+total, file, "--dry-run")
	if d, err := c.Node(0).Digest(); err != nil || d.Keys != 0 || len(d.Seen) > 0 {
		t.Errorf("after a dry run %s has %d keys and has seen %v, %v", c.Node(0), d.Keys, d.Seen, err)
	}
	wantRestored(t, c.Node(0), "restored "+total, file)
}

func TestRestoreAsNewUndoesAMistake(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	fill(t, "kept", 20, 0, c.Nodes()...)
	must(t, c.Node(0).Put("later", "x").Expect(201))
	must(t, c.Node(0).Delete("later").Expect(204))
	file, _ := backup(t, c.Node(0))
	for i := range 10 {
		must(t, c.Node(i%3).Put(fmt.Sprint("kept", i), "a mistake").Expect(201))
	}
	must(t, c.Node(1).Delete("kept15").Expect(204))
	must(t, c.Node(1).Put("later", "kept").Expect(201))
	must(t, c.Node(1).Put("new", "kept").Expect(201))
	wantRestored(t, c.Node(2), "restored 0 of 21 records: 9 there already, 12 have something newer", file)
	must(t, c.Node(0).Get("kept3").Expect(200, "a mistake"))
	wantRestored(t, c.Node(2), "restored 11 of 21 records as new: 9 have that value already, 1 deletion left out", file, "--as-new", "--yes")
	wantRestored(t, c.Node(1), "restored 0 of 21 records as new: 20 have that value already, 1 deletion left out", file, "--as-new", "--yes")
	c.AwaitConverged(5 * time.Second)
	for i := range 20 {
		key := fmt.Sprint("kept", i)
		must(t, c.Node(i%3).Get(key+"?r=1").Expect(200, "value of "+key))
	}
	must(t, c.Node(0).Get("later?r=1").Expect(200, "kept"))
	must(t, c.Node(0).Get("new?r=1").Expect(200, "kept"))
}

// A backup says who is missing, and there is none without a majority.
func TestBackupNeedsAMajority(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	fill(t, "kept", 10, 0, c.Nodes()...)
	file, _ := backup(t, c.Node(0))
	c.Node(2).Kill()
	_, stderr, code := command(t, c.Node(0), "backup", file, "--yes")
	if code != 0 || !strings.Contains(stderr, "missing: n2") {
		t.Errorf("with two of three: exit code %d, %s, want 0 and who is missing", code, stderr)
	}
	wantRestored(t, c.Node(0), "restored 0 of 10 records: 10 there already, 0 have something newer", file)
	c.Node(1).Kill()
	for _, args := range [][]string{{"backup", file, "--yes"}, {"restore", file}} {
		if _, stderr, code := command(t, c.Node(0), args...); code != 4 || !strings.Contains(stderr, "quorum not met") {
			t.Errorf("%s with one of three: exit code %d, %s, want 4", args[0], code, stderr)
		}
	}
	does(t, nil, "verify", file) // the one before is still there
}
