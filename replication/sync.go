package replication

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication/seen"
)

const (
	// DefaultGrace is how long a write that a peer tells of may be on its way here.
	DefaultGrace = 500 * time.Millisecond
	// DefaultCallTimeout is how long a peer may take to open a pull or to make a page.
	DefaultCallTimeout = 10 * time.Second
	// minBackoff and maxBackoff bound the pause after a pull that failed.
	minBackoff = 250 * time.Millisecond
	maxBackoff = 30 * time.Second
	// back is after how long without a word a peer counts as having come back: a few exchanges.
	back = 3 * time.Second
	// look is how often a Syncer looks whether there is something to do that no exchange told
	// it of, such as a change of the roster; idleLook is how often one that has all it should have
	// does: each look wakes an idle process, which costs more than what it does then.
	look     = 100 * time.Millisecond
	idleLook = time.Second
)

// SyncConfig is what a Syncer works with. Zero durations mean defaults, and so do nil
// functions and loggers: no requests, nobody to tell, no log.
type SyncConfig struct {
	// Replica is this node's. It is required, as are Members and Peers.
	Replica *Replica
	Members Members
	Peers   Peers
	// Memory keeps what was pulled, and whether this node was synced before. It is required.
	Memory *Memory
	// Checked reports whether this node may rely on its data: Monitor.Checked. Nil means that it
	// always may.
	Checked func() bool
	// SetSynced is told whether this node has all that it should have: once when Run starts,
	// and whenever that changes. It must not block.
	SetSynced func(synced bool)
	// Busy reports whether requests of clients are under way: Coordinator.Busy.
	Busy func() bool
	// Grace is how long a write that a peer has seen may be missing here before it is pulled,
	// 500 ms by default. Lower, and writes that are on their way are transferred twice; higher,
	// and lost ones are missing for longer.
	Grace time.Duration
	// CallTimeout is how long a peer may take to open a pull or to make a page, 10 s by default.
	// Lower, and slow peers cannot be pulled from; higher, and one that hangs holds up others
	// for longer.
	CallTimeout time.Duration
	// BytesPerSecond limits what is pulled, keys and values, on average over a page; 0 means
	// no limit. Below 64 KiB it slows down large values no further.
	BytesPerSecond int64
	// Logger gets what was pulled and what failed.
	Logger hclog.Logger
}

// Validate returns all that is wrong with the configuration, joined, and changes nothing.
func (cfg SyncConfig) Validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	require(cfg.Replica != nil, "Replica is missing")
	require(cfg.Members != nil, "Members is missing")
	require(cfg.Peers != nil, "Peers is missing")
	require(cfg.Memory != nil, "Memory is missing")
	require(cfg.Grace >= 0, "Grace %v is below 0", cfg.Grace)
	require(cfg.CallTimeout >= 0, "CallTimeout %v is below 0", cfg.CallTimeout)
	require(cfg.BytesPerSecond >= 0, "BytesPerSecond %d is below 0", cfg.BytesPerSecond)
	return errors.Join(errs...)
}

// Syncer is the side of catch-up that asks: it pulls from other nodes what this one lacks, from
// one at a time. Safe for concurrent use.
type Syncer struct {
	cfg  SyncConfig
	wake chan struct{} // has room for one: look now
	pace pace          // Run's
	// unmarked: it was said that the mark cannot be saved. Run's.
	unmarked bool

	mu      sync.Mutex // guards the fields below
	sources map[string]*source
	synced  bool
	// member: this node was in the roster in force at the last look, of that cluster.
	member  bool
	cluster string
	// lossAccepted: fewer sources than the rule asks for are enough.
	lossAccepted bool
	progress     SyncProgress
	stats        SyncStats
}

// source is what is known of a peer as a source of records.
type source struct {
	heard time.Time // last
	// wanted is what it had seen at wantedAt, some of which was missing here when it was
	// compared last; nil if there is nothing of that kind.
	wanted     *seen.Set
	wantedLife uint64 // of its data when it told that
	wantedAt   time.Time
	// complete: a pull from it was completed since the start of this process, and since this
	// node is a member if it is one.
	complete bool

	failures int       // since the last pull that was complete
	notUntil time.Time // to pull from again
	// stuck: wanted is what the last pull failed to bring.
	stuck bool
}

// SyncProgress is how far the pull under way has got, in keys.
type SyncProgress struct {
	// From is the id of the node pulled from, empty if no pull is under way.
	From string
	// Pulled is how many of the Offered keys were dealt with.
	Pulled, Offered uint64
	// Awaited is how many members have to be back with what they have, before this node can be
	// synced. It is 0 for one that is, and for one whose operator has accepted the loss.
	Awaited int
}

// SyncStats counts what a Syncer did since it was made.
type SyncStats struct {
	// Complete, Incomplete and Failed are numbers of pulls: those that brought all, those in
	// which a record could not be read where it came from, and those that ended before.
	Complete, Incomplete, Failed uint64
	// Records and Bytes are what came and was applied, or discarded as something newer was here.
	Records, Bytes uint64
	// LastComplete is when the last pull was completed; zero if none was.
	LastComplete time.Time
}

// NewSyncer returns a syncer, or all that is wrong with cfg. It does nothing until Run.
func NewSyncer(cfg SyncConfig) (*Syncer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("sync configuration: %w", err)
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = DefaultCallTimeout
	}
	if cfg.Checked == nil {
		cfg.Checked = func() bool { return true }
	}
	if cfg.SetSynced == nil {
		cfg.SetSynced = func(bool) {}
	}
	if cfg.Busy == nil {
		cfg.Busy = func() bool { return false }
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	cfg.Logger = cfg.Logger.Named("replication")
	cfg.Replica.lagging.Store(true) // until Run finds that it is synced
	return &Syncer{
		cfg:     cfg,
		wake:    make(chan struct{}, 1),
		pace:    pace{busy: cfg.Busy, perSecond: cfg.BytesPerSecond},
		sources: make(map[string]*source),
	}, nil
}

// Heard tells what a peer has seen: MonitorConfig.Heard. theirs must not be changed any more.
// It does not block.
func (s *Syncer) Heard(id string, theirs *seen.Set) {
	member, _ := s.cfg.Members.View().Member(id)
	mine, now, life := s.cfg.Replica.seen(), time.Now(), s.cfg.Memory.lifeOf(id)
	s.mu.Lock()
	p := s.source(id)
	s.compare(id, p, mine)
	switch {
	case !member.Synced:
		// Its set says nothing of what it has.
	case now.Sub(p.heard) > back:
		// It is new, or back, or this node is: what is missing is not on its way here.
		p.wanted, p.wantedLife, p.wantedAt = theirs, life, now.Add(-s.cfg.Grace)
		p.stuck, p.failures, p.notUntil = false, 0, time.Time{}
	case p.wanted == nil:
		p.wanted, p.wantedLife, p.wantedAt = theirs, life, now
	}
	p.heard = now
	s.compare(id, p, mine)
	s.mu.Unlock()
	s.lookNow()
}

// pause returns how long to wait for the next look. It is short while anything can become due
// that nobody tells of: a pull, or that this node comes to count.
func (s *Syncer) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.synced || !s.member {
		return look
	}
	for _, p := range s.sources {
		if p.wanted != nil {
			return look
		}
	}
	return idleLook
}

// lookNow makes Run look whether there is something to do.
func (s *Syncer) lookNow() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// AcceptLoss lets this node become synced once it has pulled from every live member that is
// synced, however few those are: what only the others had is given up. It is for an operator
// who knows that the others are gone for good, and does nothing for a node that is synced.
func (s *Syncer) AcceptLoss() {
	s.mu.Lock()
	s.lossAccepted = !s.synced
	s.mu.Unlock()
	s.lookNow()
}

// source returns what is known of a peer. The caller holds s.mu.
func (s *Syncer) source(id string) *source {
	p := s.sources[id]
	if p == nil {
		p = new(source)
		s.sources[id] = p
	}
	return p
}

// Synced reports whether this node has all that it should have. Once it has, that stays so,
// but for a moment when it becomes a member, and if its data turns out to be an old copy.
func (s *Syncer) Synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.synced
}

// Progress returns how far the pull under way has got, and for whom this node has to wait.
func (s *Syncer) Progress() SyncProgress {
	view := s.cfg.Members.View()
	marked := s.cfg.Memory.syncedAs(view)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.progress
	if !s.synced && !s.lossAccepted {
		p.Awaited = awaited(view, marked, s.pulled)
	}
	return p
}

// pulled reports whether a pull from a member was completed that counts. The caller holds s.mu.
func (s *Syncer) pulled(id string) bool {
	p := s.sources[id]
	return p != nil && p.complete
}

// Stats returns what was done so far.
func (s *Syncer) Stats() SyncStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Run catches up until ctx ends. It starts no goroutines and is called once.
func (s *Syncer) Run(ctx context.Context) {
	if !s.settle() {
		s.cfg.SetSynced(false)
	}
	for {
		for id := s.next(); id != "" && ctx.Err() == nil; id = s.next() {
			s.visit(ctx, id)
			s.settle()
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-time.After(s.pause()):
		}
		s.settle()
	}
}

// settle applies the rule by which this node is synced and returns whether it is.
//
//	learner ── pulled ──▶ synced ── promoted ──▶ not synced ── pulled as a member ──▶ synced, marked
//	member that is marked ── checked ──▶ synced       any ── data went back in time ──▶ never again
func (s *Syncer) settle() bool {
	view, checked := s.cfg.Members.View(), s.cfg.Checked()
	s.mu.Lock()
	before, moved := s.synced, false
	if member := view.inForce(view.Self); member != s.member || view.Cluster != s.cluster {
		// What a learner pulled came from nodes that may not have known of its promotion, so that
		// writes were acknowledged since by a majority of the others alone.
		s.member, s.cluster, s.synced, moved = member, view.Cluster, false, true
		for _, p := range s.sources {
			p.complete = false
		}
	}
	member := s.member
	synced := checked && (s.synced || caughtUp(view, s.cfg.Memory.syncedAs(view), s.lossAccepted, s.pulled))
	s.mu.Unlock()
	if synced && member {
		// First it is remembered, then it is told: others may from then on rely on it.
		synced = s.mark(view)
	}
	s.mu.Lock()
	s.synced = synced
	s.lossAccepted = s.lossAccepted && !synced
	s.mu.Unlock()
	s.cfg.Replica.lagging.Store(!synced)
	if synced != before {
		s.cfg.Logger.Info(map[bool]string{true: "node has caught up", false: "node has to catch up"}[synced])
	}
	if synced != before || moved { // what was told before it moved does not count any more
		s.cfg.SetSynced(synced)
	}
	return synced
}

// mark remembers that this node is synced as a member, and reports whether that is durable.
func (s *Syncer) mark(view *View) bool {
	err := s.cfg.Memory.markSynced(view)
	if err != nil && !s.unmarked {
		s.cfg.Logger.Error("node cannot become synced", "error", err)
	}
	s.unmarked = err != nil
	return err == nil
}

// next returns the id of a peer to pull from now, empty if there is none.
func (s *Syncer) next() string {
	if errors.Is(s.cfg.Replica.store.Writable(), ErrReadOnly) {
		return "" // what cannot be stored need not be asked for; on a full disk there may be room again
	}
	view, mine, now := s.cfg.Members.View(), s.cfg.Replica.seen(), time.Now()
	known := func(id string) bool { _, known := view.Member(id); return known }
	if len(view.Rosters) > 0 {
		s.cfg.Memory.Keep(known)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.sources, func(id string, _ *source) bool { return !known(id) })
	asks := !s.synced && !(s.member && s.cfg.Memory.syncedAs(view))
	first := rand.IntN(max(1, len(view.Members))) // so that not all nodes turn to the same one
	for i := range view.Members {
		m := view.Members[(first+i)%len(view.Members)]
		if m.ID == view.Self || !m.Live || !m.Synced {
			continue // one that is not synced answers no pull
		}
		p := s.source(m.ID)
		if p.heard.IsZero() {
			// A pull from it could hide that this node's data went back in time: first the two
			// compare what it knows of this node.
			continue
		}
		s.compare(m.ID, p, mine)
		// A node that has to catch up asks each member whether it has everything of it: what an
		// exchange told may be from before.
		due := p.wanted != nil && now.Sub(p.wantedAt) >= s.cfg.Grace ||
			asks && !p.complete && quorum{view: view}.counts(m.ID)
		if due && !now.Before(p.notUntil) {
			return m.ID
		}
	}
	return ""
}

// compare looks whether what the peer had seen is here, in mine. Writes that were just made are
// on their way from their coordinator to both nodes, and must not be pulled just because the
// peer was quicker: so the first set with something new that the peer tells is kept until all
// of it has arrived, and what is still missing of it after the grace time is not going to
// arrive by itself. The caller holds s.mu.
func (s *Syncer) compare(id string, p *source, mine *seen.Set) {
	if p.wanted == nil || p.wanted.Missing(mine) > 0 {
		return
	}
	s.cfg.Memory.Pull(id, p.wantedLife, p.wanted) // the empty pull
	p.wanted = nil
	if p.stuck {
		p.stuck, p.failures, p.notUntil = false, 0, time.Time{}
	}
}

// visit pulls from one peer and enters what came of it.
func (s *Syncer) visit(ctx context.Context, id string) {
	life := s.cfg.Memory.lifeOf(id) // what is pulled is of this one, or void soon
	snapshot, err := s.pull(ctx, id)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress = SyncProgress{}
	s.cfg.Replica.progress.Store(nil)
	p := s.source(id)
	if err == nil {
		s.cfg.Memory.Pull(id, life, snapshot)
		p.complete = true
		p.stuck, p.failures, p.notUntil = false, 0, time.Time{}
		// What was heard before says no more than the pull did. A peer that has less now than it
		// told before would else be asked again and again.
		p.wanted = nil
		s.stats.Complete++
		s.stats.LastComplete = time.Now()
		return
	}
	if errors.Is(err, errIncomplete) {
		s.stats.Incomplete++
	} else {
		s.stats.Failed++
	}
	pause := min(minBackoff<<min(p.failures, 16), maxBackoff)
	pause = pause*3/4 + rand.N(pause/2)
	p.failures++
	p.notUntil = time.Now().Add(pause)
	p.stuck = p.wanted != nil
	s.cfg.Logger.Warn("pull was not completed", "node", id, "error", err, "again_in", pause)
}

// pull asks a peer for all that this node lacks and returns the peer's seen set of when it was
// asked, once all of that is durable here and united with the own set.
//
// A pull that ends early leaves nothing to be resumed: the dots of what was applied are marked,
// so the next one is not offered them again. A cursor would be wrong, for the keys of another
// pull are other keys.
func (s *Syncer) pull(ctx context.Context, id string) (*seen.Set, error) {
	started := time.Now()
	opened, err := s.open(ctx, id)
	if err != nil {
		return nil, err
	}
	var records, incomplete uint64
	for from := uint64(0); ; {
		s.advance(id, from, opened.Keys)
		if err := s.pace.wait(ctx); err != nil {
			return nil, err
		}
		page, err := s.page(ctx, id, opened.ID, from)
		if err != nil {
			return nil, err
		}
		records += uint64(len(page.Records))
		if page.Incomplete {
			incomplete++
		}
		if page.Next == 0 {
			break
		}
		if page.Next <= from {
			return nil, fmt.Errorf("%w: key %d comes after key %d", errNonsense, page.Next, from)
		}
		from = page.Next
	}
	if incomplete > 0 {
		// What could not be read may be the one record that a dot of the peer's set stands for.
		return nil, fmt.Errorf("%w: on %d pages", errIncomplete, incomplete)
	}
	if opened.Collected != nil {
		if err := s.cfg.Memory.Collect(opened.Collected); err != nil {
			return nil, err
		}
	}
	if err := s.cfg.Replica.store.Unite(opened.Seen); err != nil {
		return nil, fmt.Errorf("unite seen sets: %w", err)
	}
	s.cfg.Logger.Debug("pull is complete", "node", id, "records", records, "took", time.Since(started))
	return opened.Seen, nil
}

// advance enters how far the pull under way has got.
func (s *Syncer) advance(id string, pulled, offered uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress = SyncProgress{From: id, Pulled: pulled, Offered: offered}
	if !s.synced {
		progress := s.progress
		s.cfg.Replica.progress.Store(&progress)
	}
}

func (s *Syncer) open(ctx context.Context, id string) (Pull, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	opened, err := s.cfg.Peers.OpenPull(ctx, id, s.cfg.Replica.seen())
	if err == nil && opened.Seen == nil {
		err = fmt.Errorf("%w: pull without a seen set", errNonsense)
	}
	if err == nil {
		err = s.cfg.Replica.compare(id, Status{Seen: opened.Seen})
	}
	return opened, err
}

// page fetches one page and applies it. When it returns, all of it is durable.
func (s *Syncer) page(ctx context.Context, id string, pull, from uint64) (Page, error) {
	asked := time.Now()
	call, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	page, err := s.cfg.Peers.NextPage(call, id, pull, from)
	if err != nil {
		return Page{}, err
	}
	outcomes := s.cfg.Replica.take(page.Records)
	bytes := 0
	for i, r := range page.Records {
		if _, err := accepted(outcomes[i:i+1], r); err != nil {
			return Page{}, fmt.Errorf("apply record: %w", err)
		}
		bytes += len(r.Key) + len(r.ContentType) + len(r.Value)
	}
	s.pace.spent(asked, bytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Records += uint64(len(page.Records))
	s.stats.Bytes += uint64(bytes)
	return page, nil
}
