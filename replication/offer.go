package replication

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/protocol7/snakes/replication/seen"
)

const (
	// DefaultPageBytes and DefaultPageRecords limit a page.
	DefaultPageBytes   = 1 << 20
	DefaultPageRecords = 1000
	// maxOffers is how many pulls are open at a time, one per asking node. An open pull costs
	// a key list in memory, so there must be some limit; a node whose pull gave way starts over
	// and gets only what it has not got yet.
	maxOffers = 16
	// maxOfferIdle is for how long a pull stays open that nobody asks a page of: well above any
	// pause that a Syncer makes between two pages.
	maxOfferIdle = time.Minute
	// recordOverhead is what a record counts for in a page beyond its key, type and value.
	recordOverhead = 64
)

// OffersConfig is what Offers work with. Zero sizes mean defaults; all else is required.
type OffersConfig struct {
	// Store keeps this node's records.
	Store Store
	// Members tells whether this node is synced, and enrolls the nodes that pull.
	Members Members
	// Collected tells which tombstones may have been dropped here: Memory.Collected. Nil: none ever.
	Collected func() *seen.Set
	// PageBytes is how much a page may hold, keys and types included, 1 MiB by default.
	// PageRecords is of how many keys it may hold the records, 1,000 by default. Larger pages
	// make fewer round trips and larger group commits at the asking node, at more memory on
	// both sides and longer waits for clients' requests that come between.
	PageBytes, PageRecords int
}

// Validate returns all that is wrong with the configuration, joined, and changes nothing.
func (cfg OffersConfig) Validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	require(cfg.Store != nil, "Store is missing")
	require(cfg.Members != nil, "Members is missing")
	require(cfg.PageBytes >= 0, "PageBytes %d is below 0", cfg.PageBytes)
	require(cfg.PageRecords >= 0, "PageRecords %d is below 0", cfg.PageRecords)
	return errors.Join(errs...)
}

// Offers is the side of catch-up that answers: it lets other nodes pull what they lack. Safe
// for concurrent use.
type Offers struct {
	cfg OffersConfig

	mu   sync.Mutex // guards open
	open map[uint64]*offer
}

// offer is a pull as seen from the node that is pulled from.
type offer struct {
	to string
	// keys are those offered, complete is whether they are all. Neither ever changes: what a
	// page is made of depends on nothing but its number and the records of that moment, so
	// that it can be asked for again.
	keys     []string
	complete bool

	used   time.Time   // guarded by Offers.mu
	expire *time.Timer // drops the offer once it has been idle for too long
}

// NewOffers returns the answering side of catch-up, or all that is wrong with cfg.
func NewOffers(cfg OffersConfig) (*Offers, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("offers configuration: %w", err)
	}
	if cfg.PageBytes == 0 {
		cfg.PageBytes = DefaultPageBytes
	}
	if cfg.PageRecords == 0 {
		cfg.PageRecords = DefaultPageRecords
	}
	if cfg.Collected == nil {
		cfg.Collected = func() *seen.Set { return new(seen.Set) }
	}
	return &Offers{cfg: cfg, open: make(map[uint64]*offer)}, nil
}

// OpenPull offers node from, which has seen theirs, all it lacks of what this node has. A pull
// that the same node had open is closed. theirs is not changed or kept.
//
// The error wraps ErrNotReady if this node is not synced: who has not got everything cannot
// tell others that they have. Else it is that of Members.Enroll. It may wait for the disk.
func (o *Offers) OpenPull(from string, theirs *seen.Set) (Pull, error) {
	view := o.cfg.Members.View()
	if self, _ := view.Member(view.Self); !self.Synced {
		return Pull{}, fmt.Errorf("%w: it has not caught up itself", ErrNotReady)
	}
	// Before anything is looked at: whoever has a dot of this node's set knows, by the roster
	// that comes with the set, of everybody who may hold what the dot has superseded.
	if err := o.cfg.Members.Enroll(from); err != nil {
		return Pull{}, fmt.Errorf("enroll the asking node: %w", err)
	}
	// First the set, then the keys. Take a dot of the set: its record is here, or one with a
	// higher version is, and the dot of whichever is current when the keys are listed is in
	// theirs, or its key is offered. So who takes all that is offered lacks nothing of the set.
	// A write that lands in between is offered without being in the set, which only means that
	// the next pull has it in its set. The other way round it would be in the set without
	// being offered, and whoever united the set would never ask for it again.
	snapshot := o.cfg.Store.Seen()
	keys, complete := o.cfg.Store.Lacking(theirs)
	// After the keys: a tombstone that was dropped before them is in it, and one that is dropped
	// later makes its page incomplete.
	collected := o.cfg.Collected()

	// Drawn at random: after a restart no pull must be taken for one of the process before.
	id := rand.Uint64()
	p := &offer{to: from, keys: keys, complete: complete, used: time.Now()}
	p.expire = time.AfterFunc(maxOfferIdle, func() { o.drop(id) })
	o.mu.Lock()
	defer o.mu.Unlock()
	o.makeRoom(from)
	o.open[id] = p
	return Pull{ID: id, Seen: snapshot, Collected: collected, Keys: uint64(len(keys))}, nil
}

// makeRoom closes the pulls of node from and, if there are too many, the one that has been idle
// for longest. The caller holds o.mu.
func (o *Offers) makeRoom(from string) {
	var idle uint64
	for id, p := range o.open {
		if p.to == from {
			p.expire.Stop()
			delete(o.open, id)
		} else if oldest := o.open[idle]; oldest == nil || p.used.Before(oldest.used) {
			idle = id
		}
	}
	if len(o.open) >= maxOffers {
		o.open[idle].expire.Stop()
		delete(o.open, idle)
	}
}

func (o *Offers) drop(id uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, id)
}

// NextPage returns the records of the keys of a pull from number from on, each as it is now:
// even if newer than the pull, as the older one that the pull's seen set stands for is gone.
// A page holds at least one key's record, whatever its size. It is no error to ask for the
// same page again.
//
// ErrPullGone: this node knows no such pull, or not any more. Other errors mean that the
// request makes no sense, or are the disk's.
func (o *Offers) NextPage(pull, from uint64) (Page, error) {
	o.mu.Lock()
	p, known := o.open[pull]
	if known {
		p.used = time.Now()
		p.expire.Reset(maxOfferIdle)
	}
	o.mu.Unlock()
	if !known {
		return Page{}, ErrPullGone
	}
	total := uint64(len(p.keys))
	if from > total {
		return Page{}, fmt.Errorf("page from key %d of %d", from, total)
	}
	page := Page{Next: from}
	bytes := 0
	for _, key := range p.keys[from:min(total, from+uint64(o.cfg.PageRecords))] {
		record, err := o.cfg.Store.Get(key)
		switch {
		// A record may be gone because a tombstone was collected. That takes that every node
		// has seen its dot, the asking one too since it asked, unless that one's data went back
		// in time; which of the two cannot be told here, and asking once more is cheap.
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrNotFound):
			page.Incomplete = true
			page.Next++
			continue
		case err != nil:
			return Page{}, fmt.Errorf("record of %s: %w", key, err)
		}
		bytes += len(record.Key) + len(record.ContentType) + len(record.Value) + recordOverhead
		if bytes > o.cfg.PageBytes && len(page.Records) > 0 {
			return page, nil // it is the next page's first
		}
		page.Records = append(page.Records, record)
		page.Next++
	}
	if page.Next == total {
		page.Next = 0
		page.Incomplete = page.Incomplete || !p.complete
	}
	return page, nil
}
