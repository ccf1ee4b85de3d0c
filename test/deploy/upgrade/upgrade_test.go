// Package upgrade runs clusters of two releases: this one and the one before it, on the wire and on disk, forward and back.
//
// The one before is the last tag v* before this commit. As long as there is none, it is what was there before the last commit that touched
// what nodes send each other or write down.
package upgrade

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

const (
	root     = "../../.."
	patience = 30 * time.Second
)

// formats is where it is said what is sent and written.
var formats = []string{
	"disk/record.go", "disk/save.go", "disk/history.go", "disk/journal/frame.go", "node/codec.go", "node/peer.go", "membership/info.go",
	"membership/saved.go", "membership/roster/roster.go", "membership/roster/change.go", "membership/roster/ledger.go", "replication/memory.go",
	"replication/seen/codec.go", "replication/version/version.go",
}

func TestMain(m *testing.M) {
	code := cluster.Main(m)
	if buildDir != "" {
		if err := os.RemoveAll(buildDir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

func git(args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-c", "safe.directory=*", "-C", root}, args...)...)
	output, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, e.Stderr)
	}
	return strings.TrimSpace(string(output)), err
}

var errNoHistory = errors.New("this clone does not have the history that the release before this one is built from")

// before returns the commit of the release before this one.
func before() (string, error) {
	if tag, err := git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD~1"); err == nil {
		return git("rev-parse", tag+"^{commit}")
	}
	last, err := git(append([]string{"log", "-1", "--format=%H", "--"}, formats...)...)
	if err != nil || last == "" {
		return "", errors.Join(errNoHistory, err)
	}
	commit, err := git("rev-parse", "--verify", "--quiet", last+"~1")
	if err != nil { // a shallow clone takes its first commit for one that touched everything
		return "", errNoHistory
	}
	return commit, nil
}

var buildDir string // TestMain removes it

// build is the program of the release before this one.
var build = sync.OnceValues(func() (program string, err error) {
	commit, err := before()
	if err != nil {
		return "", err
	}
	if buildDir, err = os.MkdirTemp("", "snakes-before-"); err != nil {
		return "", err
	}
	archive, source := filepath.Join(buildDir, "source.tar"), filepath.Join(buildDir, "source")
	if _, err := git("archive", "-o", archive, commit); err != nil {
		return "", err
	}
	program = filepath.Join(buildDir, "snakes")
	for _, args := range [][]string{
		{"mkdir", source},
		{"tar", "-xf", archive, "-C", source},
		{"go", "build", "-C", source, "-buildvcs=false", "-ldflags", "-X main.version=before", "-o", program, "./cmd/snakes"},
	} {
		if output, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, output)
		}
	}
	return program, nil
})

// programBefore returns the program of the release before this one. A clone without history is no fault of the program: the test is skipped
// then, in CI too, and says so.
func programBefore(t *testing.T) string {
	t.Helper()
	program, err := build()
	if errors.Is(err, errNoHistory) {
		t.Skipf("clusters of two releases are NOT tested: %v; git fetch --unshallow --tags", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// story is a cluster that goes through releases while it is used.
type story struct {
	*cluster.Cluster
	t    *testing.T
	want map[string]string // what was put last under each key; empty: it was deleted
	step int
}

func newStory(t *testing.T, binary string, args ...string) *story {
	return &story{cluster.New(t, cluster.Options{Nodes: 3, Binary: binary, Args: args}), t, make(map[string]string), 0}
}

// use writes, replaces and deletes through every node, on all of them, and reads all that was ever written from every node.
func (s *story) use(what string) {
	s.t.Helper()
	s.step++
	for i, n := range s.Running() {
		own, shared, gone := fmt.Sprintf("step%dnode%d", s.step, i), "shared", fmt.Sprintf("gone%d", i)
		for key, value := range map[string]string{own: what, shared: what + own, gone: "to be deleted"} {
			if err := n.Put(key+"?w=all", value).Expect(http.StatusCreated); err != nil {
				s.t.Fatalf("%s: %v", what, err)
			}
			s.want[key] = value
		}
		if err := n.Do(http.MethodDelete, "/"+gone+"?w=all", "").Expect(http.StatusNoContent); err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
		s.want[gone] = ""
	}
	s.check(what)
}

// check reads everything from every node, at every level, and waits until all have the same.
func (s *story) check(what string) {
	s.t.Helper()
	for _, n := range s.Running() {
		for key, value := range s.want {
			status, body := http.StatusOK, []string{value}
			if value == "" {
				status, body = http.StatusNotFound, nil
			}
			for _, level := range []string{"all", "one"} {
				if err := n.Do(http.MethodGet, "/"+key+"?r="+level, "").Expect(status, body...); err != nil {
					s.t.Fatalf("%s: %v", what, err)
				}
			}
		}
		if err := n.Do(http.MethodGet, "/-/keys?prefix=step&r=all", "").Expect(http.StatusOK); err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
	}
	s.Await(patience, what+": the same digest everywhere", func() error {
		digests := make(map[string]string)
		for _, n := range s.Running() {
			d, err := n.Digest()
			if err != nil {
				return err
			}
			digests[d.Digest] = n.String()
		}
		if len(digests) != 1 {
			return fmt.Errorf("got %v", digests)
		}
		return nil
	})
}

// change starts one node with another program, on its data, after it has missed something.
func (s *story) change(n *cluster.Node, binary, what string) {
	s.t.Helper()
	n.Stop()
	other := s.Running()[0]
	s.Await(patience, what+": the others take writes", func() error { return other.Put("missed", what).Expect(http.StatusCreated) })
	s.want["missed"] = what
	n.Binary = binary
	n.Start()
	s.AwaitMembers(patience)
	s.use(what)
}

// There and back: each node in turn gets the other program, is used in each mixture, and then all go back.
func TestReleasesInteroperateOnTheWireAndOnDisk(t *testing.T) {
	t.Parallel()
	old, current := programBefore(t), cluster.Binary(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a secret of the two releases\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, old, "--bind", "127.0.0.1", "--secret-file", secret)
	s.Start()
	s.use("all are of the release before")
	for i, n := range s.Nodes() {
		s.change(n, current, fmt.Sprintf("%d of 3 upgraded", i+1))
	}
	for i, n := range s.Nodes() {
		s.change(n, old, fmt.Sprintf("%d of 3 back at the release before", i+1))
	}
}

// A node of either release takes in one of the other, with all that it has.
func TestReleasesJoinEachOther(t *testing.T) {
	for _, row := range []struct {
		name    string
		forward bool
	}{{"a new node joins the release before", true}, {"a node of the release before joins", false}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			there, joins := programBefore(t), cluster.Binary(t)
			if !row.forward {
				there, joins = joins, there
			}
			s := newStory(t, there)
			s.Start()
			s.use("before it joins")
			n := s.AddNode()
			n.Binary = joins
			n.Start("--join", s.Node(0).Addr())
			s.AwaitMembers(patience)
			s.check("after it joined")
			s.use("with it")
		})
	}
}
