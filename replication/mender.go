package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// mendFetches and mendKeys limit one comparison with a peer: how many records are fetched,
	// and of about how many keys the versions are compared. The next exchange asks for more.
	mendFetches = 1000
	mendKeys    = 50_000
	// maxMendBuckets is how many buckets are compared at a time if they hold few keys.
	maxMendBuckets = 256
	// minMendPause and maxMendPause bound the pause after a comparison that mended nothing.
	minMendPause = 5 * time.Second
	maxMendPause = 10 * time.Minute
	// maxUnexplained is how many unexplained keys are known again, so that each is told of once.
	maxUnexplained = 100_000
)

// MenderConfig is what a Mender works with. CallTimeout and Logger may be zero; all else is
// required.
type MenderConfig struct {
	// Replica is this node's.
	Replica *Replica
	Members Members
	Peers   Peers
	// CallTimeout is how long a peer may take for one answer, 10 s by default.
	CallTimeout time.Duration
	// Logger gets what differs and what was mended.
	Logger hclog.Logger
}

// Validate returns all that is wrong with the configuration, joined, and changes nothing.
func (cfg MenderConfig) Validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	require(cfg.Replica != nil, "Replica is missing")
	require(cfg.Members != nil, "Members is missing")
	require(cfg.Peers != nil, "Peers is missing")
	require(cfg.CallTimeout >= 0, "CallTimeout %v is below 0", cfg.CallTimeout)
	return errors.Join(errs...)
}

// Mender compares this node's records with those of peers that have seen the same writes but
// have another digest: on one of the two nodes records were damaged or lost. It mends this
// node's; the peer's mender does the same there. It is no part of catching up, and never marks
// a dot of which it has not got the record. Safe for concurrent use.
type Mender struct {
	cfg  MenderConfig
	wake chan struct{} // has room for one: look now

	mu          sync.Mutex // guards the fields below
	peers       map[string]*difference
	unexplained map[uint64]bool // DigestOf what peers have and this node has not
	stats       MenderStats
}

// difference is what is known of a peer whose digest was found to differ, until it is found to
// be the same. It begins as suspect and is confirmed by a second exchange; after a comparison it
// takes one more.
type difference struct {
	// suspect: digests differed at the last exchange, while both nodes had seen the set with
	// this hash.
	suspect bool
	seen    uint64
	// confirmed: the peer is to be compared with, not before notUntil.
	confirmed bool
	notUntil  time.Time
	told      bool // to the log
	mended    uint64
	// idle is how many comparisons in a row mended nothing, next the bucket to begin with.
	idle, next int
}

// MenderStats counts what a Mender did since it was made.
type MenderStats struct {
	// Mismatches is how often a peer was found that has seen the same but has another digest.
	// One that lasts counts once.
	Mismatches uint64
	// Mended is how many records were fetched that had been damaged or lost.
	Mended uint64
	// Unexplained is how many records peers have of keys of which this node has none, though it
	// has seen them, and no damage to show for it. They were not copied: as likely as not the
	// key was deleted, and it is the peer that is wrong.
	Unexplained uint64
}

// NewMender returns a mender, or all that is wrong with cfg. It does nothing until Run.
func NewMender(cfg MenderConfig) (*Mender, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mender configuration: %w", err)
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = DefaultCallTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	cfg.Logger = cfg.Logger.Named("replication")
	return &Mender{
		cfg: cfg, wake: make(chan struct{}, 1),
		peers: make(map[string]*difference), unexplained: make(map[uint64]bool),
	}, nil
}

// Compared tells what this node and a peer said of themselves in one exchange:
// MonitorConfig.Compared. It does not block.
//
// Set and digest are not read at the same instant, so that a write in between makes digests
// differ that are the same. Between two exchanges in a row with the same sets there was none.
func (m *Mender) Compared(id string, mine, theirs Status) {
	switch change, mended := m.note(id, mine, theirs); change {
	case differs:
		m.cfg.Logger.Warn("digest differs from that of a node that has seen the same", "node", id,
			"digest", fmt.Sprintf("%016x", mine.Digest), "other", fmt.Sprintf("%016x", theirs.Digest))
	case agrees:
		m.cfg.Logger.Info("digest is that of the other node again", "node", id, "mended", mended)
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// change is what an exchange changed in what is known of a peer.
type change int

const (
	nothing change = iota
	differs        // its digest
	agrees         // again
)

// note enters what was said in an exchange. mended is how many records were since differs.
func (m *Mender) note(id string, mine, theirs Status) (_ change, mended uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[id]
	switch {
	case mine.SeenHash != theirs.SeenHash:
		if p != nil {
			p.suspect = false
		}
	case mine.Digest == theirs.Digest:
		delete(m.peers, id)
		if p != nil && p.told {
			return agrees, p.mended
		}
	case p == nil:
		m.peers[id] = &difference{suspect: true, seen: mine.SeenHash}
	case !p.suspect || p.seen != mine.SeenHash:
		p.suspect, p.seen = true, mine.SeenHash
	default:
		p.confirmed = true
		if !p.told {
			p.told = true
			m.stats.Mismatches++
			return differs, 0
		}
	}
	return nothing, 0
}

// Stats returns what was done so far.
func (m *Mender) Stats() MenderStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// Run mends until ctx ends, one peer at a time. It starts no goroutines and is called once.
func (m *Mender) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		}
		for id := m.due(); id != "" && ctx.Err() == nil; id = m.due() {
			m.visit(ctx, id)
		}
	}
}

// due returns the id of a peer to compare with now, empty if there is none.
func (m *Mender) due() string {
	view := m.cfg.Members.View()
	self, _ := view.Member(view.Self)
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, p := range m.peers {
		peer, known := view.Member(id)
		if !known {
			delete(m.peers, id)
			continue
		}
		// What a node has that is not synced proves nothing.
		if p.confirmed && self.Synced && peer.Live && peer.Synced && !time.Now().Before(p.notUntil) {
			return id
		}
	}
	return ""
}

// visit compares with one peer and enters what came of it.
func (m *Mender) visit(ctx context.Context, id string) {
	m.mu.Lock()
	p := m.peers[id]
	if p == nil {
		m.mu.Unlock()
		return // the digests have become equal
	}
	from := p.next
	m.mu.Unlock()

	found, err := m.compare(ctx, id, from)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		m.cfg.Logger.Warn("comparison with a node was not completed", "node", id, "error", err)
	}
	m.mu.Lock()
	p.confirmed = false // what was found may have been all
	p.next = found.next
	p.mended += found.mended
	m.stats.Mended += found.mended
	p.idle++
	if found.mended > 0 {
		p.idle = 0
	}
	if p.idle > 0 {
		pause := min(minMendPause<<min(p.idle-1, 16), maxMendPause)
		p.notUntil = time.Now().Add(pause*3/4 + rand.N(pause/2))
	}
	strange := m.enter(found.unexplained)
	m.mu.Unlock()
	if len(strange) > 0 {
		m.cfg.Logger.Warn("a node has records that were seen here, are not here, and were not lost here; they are not copied",
			"node", id, "number", len(strange), "key", strange[0].Key, "version", strange[0].Version)
	}
}

// enter enters unexplained records and returns those that were not known. The caller holds m.mu.
func (m *Mender) enter(unexplained []Held) (strange []Held) {
	for _, held := range unexplained {
		sum := DigestOf(held.Key, held.Version)
		if m.unexplained[sum] {
			continue
		}
		if len(m.unexplained) >= maxUnexplained {
			clear(m.unexplained)
		}
		m.unexplained[sum] = true
		m.stats.Unexplained++
		strange = append(strange, held)
	}
	return strange
}

// comparison is what came of one.
type comparison struct {
	mended      uint64
	unexplained []Held
	next        int // bucket to go on with
}

// compare compares some of the buckets that differ from those of a peer, from the given one on,
// and mends what this node should have. With an error it tells how far it got.
func (m *Mender) compare(ctx context.Context, id string, from int) (comparison, error) {
	store := m.cfg.Replica.store
	theirs, err := ask(ctx, m.cfg.CallTimeout, func(ctx context.Context) ([]uint64, error) {
		return m.cfg.Peers.Buckets(ctx, id)
	})
	mine := store.Buckets()
	if err == nil && len(theirs) != len(mine) {
		err = fmt.Errorf("%w: %d buckets", errNonsense, len(theirs))
	}
	if err != nil {
		return comparison{next: from}, err
	}
	most := mendKeys / ((store.Len()+store.TombstoneCount())/DigestBuckets + 1)
	differing := differences(mine, theirs, from, max(1, min(most, maxMendBuckets)))
	if len(differing) == 0 {
		return comparison{next: from}, nil
	}
	contents, err := ask(ctx, m.cfg.CallTimeout, func(ctx context.Context) ([]Held, error) {
		return m.cfg.Peers.Contents(ctx, id, differing)
	})
	if err != nil {
		return comparison{next: from}, err
	}
	found := comparison{next: (differing[len(differing)-1] + 1) % DigestBuckets}
	// Seen is read after what the peer has and before what this node has: so a write that is on
	// its way here is not taken for one that was lost.
	seen := m.cfg.Replica.seen()
	fetched := 0
	for _, held := range contents {
		if !seen.Has(held.Version.Dot) {
			continue
		}
		switch own, err := store.Lookup(held.Key); lacks(own, err, held) {
		case lost:
			if fetched++; fetched > mendFetches {
				return found, nil // the rest comes up again when all buckets were looked at
			}
			mended, err := m.mend(ctx, id, held)
			if err != nil {
				return found, err
			}
			if mended {
				found.mended++
			}
		case unexplained:
			found.unexplained = append(found.unexplained, held)
		}
	}
	return found, nil
}

// differences returns the first numbers, at most so many, at which two slices of equal length
// differ, beginning at from and going round once.
func differences(mine, theirs []uint64, from, most int) (differing []int) {
	for i := range mine {
		if i = (from + i) % len(mine); mine[i] != theirs[i] && len(differing) < most {
			differing = append(differing, i)
		}
	}
	return differing
}

// lack is what a record of a peer says of this node's.
type lack int

const (
	inStep      lack = iota
	lost             // it is to be fetched
	unexplained      // there is no telling who is right
)

// lacks judges by what this node holds of a key, own and the error of Store.Lookup, and what a
// peer holds, whose dot this node has seen.
func lacks(own Meta, err error, theirs Held) lack {
	switch {
	case errors.Is(err, ErrDamaged):
		return lost // it is unknown what was there, and anything is better
	case errors.Is(err, ErrNotFound) && theirs.Deleted:
		return inStep // the tombstone was collected
	case errors.Is(err, ErrNotFound):
		// A tombstone above it may have been collected here, which takes that the peer has seen
		// it, too. Nothing shows that a record was lost here: an index does not lose one without
		// a trace in all of its checks.
		return unexplained
	case err == nil && own.Version.Compare(theirs.Version) < 0:
		return lost // whoever has seen a dot should hold its record or a newer one
	}
	return inStep
}

// mend fetches one record from a peer and stores it, and reports whether it is here now.
func (m *Mender) mend(ctx context.Context, id string, held Held) (bool, error) {
	record, err := ask(ctx, m.cfg.CallTimeout, func(ctx context.Context) (Record, error) {
		return m.cfg.Peers.Fetch(ctx, id, held.Key)
	})
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound) {
		return false, nil // damaged there as well, or collected since
	}
	if err != nil {
		return false, err
	}
	current, err := accepted(m.cfg.Replica.Write([]Record{record}), record)
	if err != nil {
		return false, fmt.Errorf("apply record: %w", err)
	}
	return current.Version == record.Version, nil
}

// ask makes one call that may take so long.
func ask[T any](ctx context.Context, timeout time.Duration, call func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return call(ctx)
}
