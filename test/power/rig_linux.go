package power

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
	"github.com/protocol7/snakes/test/volume"
)

const (
	// volumeBytes is the size of the node's disk.
	volumeBytes = 192 << 20
	// startDeadline is how long a node may take to be ready.
	startDeadline = 20 * time.Second
	// loadTime is how long users work at most before the power is cut.
	loadTime = 400 * time.Millisecond
	// afterwards users go on for a moment with a node that has lost its disk.
	afterwards = 3 * time.Millisecond
)

// rig is a node with its data on a file system whose power can be cut.
type rig struct {
	volume  *volume.Volume
	watch   *watch
	node    *cluster.Node
	history *history
	lies    func(step) bool // syncs that the node believes in and that are not done; nil: none
	nodeID  string          // empty as long as it may be drawn anew

	writes int // acknowledged in all rounds
	cuts   int
	lied   int            // syncs that were not done
	syncs  map[string]int // seen in all rounds, by kind
}

// newRig makes a rig whose file system is mounted with options, and whose node has directory data of
// it. It ends with the test.
func newRig(t testing.TB, options, data string) *rig {
	t.Helper()
	dir := t.TempDir()
	v, err := volume.New(dir, options, volumeBytes)
	if err != nil {
		cluster.Missing(t, "this test cuts the power of a file system and lacks %v", err)
	}
	r := &rig{volume: v, history: newHistory(v.Outage), syncs: map[string]int{}}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Errorf("close the file system: %v", err)
		}
	})
	data = filepath.Join(v.Dir, data)
	if r.watch, err = newWatch(dir, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the node's end, before the file system's
		if err := r.watch.close(); err != nil {
			t.Errorf("watch the syncs of the node: %v", err)
		}
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := cluster.New(t, cluster.Options{
		Nodes: 1, Binary: self,
		Env: []string{programVariable + "=" + cluster.Binary(t), socketVariable + "=" + r.watch.address()},
	})
	r.node = c.Node(0)
	r.node.Data = data
	return r
}

// plan is what a round does, drawn from a seed.
type plan struct {
	seed       uint64
	users      int
	checkpoint int // MiB of journal
	anew       bool
	cut        moment
	kill       bool     // the node is killed and started once more before the power is cut
	leave      bool     // the node is asked to end, and the power is cut while it does
	starting   []moment // of cuts while it starts again
}

// moment says when the power is cut: when a node is about to do a sync of some kind for the nth time,
// and a while after that, or after a time without any.
type moment struct {
	kind  string // a pattern of path.Match for a step; empty: only time counts
	nth   int
	delay time.Duration
	limit time.Duration
}

// String implements fmt.Stringer.
func (m moment) String() string {
	if m.kind == "" {
		return fmt.Sprintf("after %v", m.limit.Round(100*time.Microsecond))
	}
	return fmt.Sprintf("%v after %d × %s", m.delay.Round(10*time.Microsecond), m.nth, m.kind)
}

// kinds are the syncs of a node that is written to.
var kinds = []string{
	"sync journal/0*", "sync journal/spare", "syncdir journal", "syncall keys", "sync index-?",
}

// anySync stands for all kinds.
const anySync = "any sync"

// kindsOfStart are those of a node that starts.
var kindsOfStart = []string{
	anySync, anySync, anySync, "syncdir .", "syncdir state", "syncdir journal", "sync journal/0*", "sync tmp/*-state",
}

func drawPlan(seed uint64) plan {
	random := rand.New(rand.NewPCG(seed, 0))
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	p := plan{
		seed: seed, users: 1 + random.IntN(24), checkpoint: 1 << random.IntN(4),
		anew: random.IntN(12) == 0, kill: random.IntN(4) == 0,
	}
	p.leave = !p.kill && random.IntN(8) == 0
	p.cut = moment{limit: upTo(loadTime)}
	if random.IntN(3) > 0 {
		p.cut = moment{kind: kinds[random.IntN(len(kinds))], nth: 1 + random.IntN(4), limit: loadTime}
		if p.cut.kind == kinds[0] {
			p.cut.nth = 1 + random.IntN(100)
		}
		if random.IntN(2) > 0 {
			p.cut.delay = upTo(2 * time.Millisecond)
		}
	}
	for random.IntN(3) == 0 {
		m := moment{limit: upTo(150 * time.Millisecond)}
		if random.IntN(3) > 0 {
			m = moment{kind: kindsOfStart[random.IntN(len(kindsOfStart))], nth: 1 + random.IntN(6), limit: 300 * time.Millisecond}
		}
		p.starting = append(p.starting, m)
	}
	return p
}

// String implements fmt.Stringer.
func (p plan) String() string {
	what := fmt.Sprintf("seed %d: %d users, checkpoints every %d MiB, power cut %v", p.seed, p.users, p.checkpoint, p.cut)
	if p.anew {
		what += ", on an empty directory"
	}
	if p.kill {
		what += ", killed and started before"
	}
	if p.leave {
		what += " of SIGTERM"
	}
	for _, m := range p.starting {
		what += fmt.Sprintf(", and while starting %v", m)
	}
	return what
}

// round has users work until the power is cut, starts the node again, possibly with more cuts,
// and returns an error unless it has all that it should. The node runs, or not yet.
func (r *rig) round(p plan) error {
	if p.anew {
		if err := r.begin(); err != nil {
			return err
		}
		if err := r.start(p, p.starting); err != nil {
			return err
		}
	} else if !r.node.Running() {
		if err := r.start(p, nil); err != nil {
			return err
		}
	}
	u := newUsers(r.node.Addr(), p.users, r.history)
	if err := r.load(u, p); err != nil {
		return err
	}
	r.writes += u.done
	if err := errors.Join(u.errs...); err != nil {
		return err
	}
	if p.kill { // whatever it tells then must be durable, though the process that wrote it had no time to see to that
		if err := r.start(p, nil); err != nil {
			return err
		}
		err := r.cutAt(moment{limit: p.cut.delay})
		r.node.End()
		if err != nil {
			return err
		}
	}
	if err := r.volume.Restore(); err != nil {
		return err
	}
	return r.start(p, p.starting)
}

// begin removes the data, durably.
func (r *rig) begin() error {
	if r.node.Running() {
		r.node.End()
	}
	r.history, r.nodeID = newHistory(r.volume.Outage), ""
	return errors.Join(os.RemoveAll(r.node.Data), r.volume.Sync())
}

// load has users work until the power is cut at p's moment, and kills the node.
func (r *rig) load(u *users, p plan) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	worked := make(chan struct{})
	go func() {
		defer close(worked)
		u.work(ctx, p.seed)
	}()
	if p.leave {
		time.Sleep(p.cut.limit / 2)
		r.node.Terminate()
	}
	var err error
	if p.kill {
		time.Sleep(p.cut.limit)
	} else {
		err = r.cutAt(p.cut)
		time.Sleep(afterwards)
	}
	r.node.End()
	cancel()
	<-worked
	return err
}

// cutAt returns when the power is off.
func (r *rig) cutAt(m moment) error {
	reached := make(chan struct{})
	count := 0
	var cut error
	err := r.watch.tell(func(s step) bool {
		if m.is(s) {
			if count++; count == m.nth {
				if m.delay == 0 {
					cut = r.volume.Cut() // before the sync is done
				}
				close(reached)
			}
		}
		return r.sees(s)
	})
	select {
	case <-reached:
		time.Sleep(m.delay)
	case <-time.After(m.limit):
	}
	err = errors.Join(err, r.volume.Cut(), r.watch.tell(r.sees), cut)
	r.cuts++
	return err
}

func (m moment) is(s step) bool {
	ok, _ := path.Match(m.kind, s.String())
	return ok || m.kind == anySync
}

// sees counts a sync of the node and reports whether it only pretends to be done.
func (r *rig) sees(s step) (lie bool) {
	r.syncs[digits.ReplaceAllString(s.String(), "N")]++
	if r.lies == nil || !r.lies(s) {
		return false
	}
	r.lied++
	return true
}

// seen ends the counting of syncs and returns how many of each kind there were, and how many of
// them were not done.
func (r *rig) seen() (kinds map[string]int, lied int) {
	_ = r.watch.tell(nil) // its error is told again when the watch is closed
	return r.syncs, r.lied
}

var digits = regexp.MustCompile(`\d[0-9a-f]*|[ab]$`)

// start starts the node, cuts the power at each of the moments and starts it again, and returns an
// error unless it is ready then and has all that it should.
func (r *rig) start(p plan, cuts []moment) error {
	r.node.Args = []string{"--checkpoint-size", fmt.Sprintf("%dMiB", p.checkpoint)}
	for _, m := range cuts {
		r.node.Launch()
		err := r.cutAt(m)
		r.node.End()
		if err = errors.Join(err, r.volume.Restore()); err != nil {
			return err
		}
	}
	if err := r.watch.tell(r.sees); err != nil {
		return err
	}
	logged := len(r.node.Log())
	r.node.Launch()
	if err := r.check(); err != nil {
		return err
	}
	for line := range strings.Lines(r.node.Log()[logged:]) {
		if strings.Contains(line, "[ERROR]") {
			return fmt.Errorf("the node logged after its start: %s", strings.TrimSpace(line))
		}
	}
	return nil
}

// check waits until the node is ready and returns an error unless it has all that it should.
func (r *rig) check() error {
	ctx, cancel := context.WithTimeout(context.Background(), startDeadline)
	defer cancel()
	u := newUsers(r.node.Addr(), 8, r.history)
	defer u.client.CloseIdleConnections()
	for u.ask(ctx, http.MethodGet, "/-/ready", nil).status != http.StatusOK {
		if !r.node.Running() {
			return fmt.Errorf("the node ended with exit code %d", r.node.AwaitExit(time.Second))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the node is not ready after %v", startDeadline)
		}
		time.Sleep(2 * time.Millisecond)
	}
	if err := r.checkIdentity(ctx, u); err != nil {
		return err
	}
	has, err := u.everything(ctx)
	if err != nil {
		return err
	}
	return r.history.settle(has)
}

// checkIdentity returns an error if the node is another one than before.
func (r *rig) checkIdentity(ctx context.Context, u *users) error {
	var m cluster.Members
	if err := u.askJSON(ctx, "/-/members", &m); err != nil {
		return err
	}
	me, _ := m.Me()
	if r.nodeID != "" && me.ID != r.nodeID || len(m.Members) != 1 {
		return fmt.Errorf("the node is %s among %d members, want %s alone", me.ID, len(m.Members), r.nodeID)
	}
	r.nodeID = me.ID
	return nil
}
