package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication/version"
)

// Defaults of Config and MonitorConfig.
const (
	DefaultTimeout          = 5 * time.Second
	DefaultSilence          = 1 * time.Second
	DefaultStragglerTimeout = 10 * time.Second
)

// Config is what a Coordinator works with. Zero durations, Now and Logger mean defaults; all
// else is required.
type Config struct {
	// Store keeps this node's records.
	Store Store
	// Members tells who the replicas are, Peers carries requests to those that are not this
	// node.
	Members Members
	Peers   Peers
	// Clock stamps writes, Origin is the number that this process drew for their dots.
	Clock  *version.Clock
	Origin uint64
	// Memory is what this node remembers of the others, to which it is told when they ask.
	Memory *Memory
	// Timeout is the longest wait for a level, 5 s by default. Lower, and slow replicas make
	// requests fail; higher, and clients of an explicit level wait longer for a dead one.
	Timeout time.Duration
	// Silence is after how long without an answer a replica is no longer waited for by default
	// levels, and reported to Members as failed if it is to blame (Peers.Silent), 1 s by default and at most Timeout. Lower,
	// and pauses of a peer cost its acknowledgement; higher, and the first requests after a
	// peer froze take longer.
	Silence time.Duration
	// StragglerTimeout is how long a write goes on towards replicas that the reply did not
	// wait for, 10 s by default and at least Timeout. What it cuts off is left to catch-up.
	StragglerTimeout time.Duration
	// Now reads the wall clock, the one that Clock reads; nil means time.Now.
	Now func() time.Time
	// Logger gets what replicas refuse; nil means none.
	Logger hclog.Logger
}

// Validate returns all that is wrong with the configuration, joined, and changes nothing.
func (cfg Config) Validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	full := cfg.withDefaults()
	require(cfg.Store != nil, "Store is missing")
	require(cfg.Members != nil, "Members is missing")
	require(cfg.Peers != nil, "Peers is missing")
	require(cfg.Clock != nil, "Clock is missing")
	require(cfg.Origin != 0, "Origin is 0, which no process draws")
	require(cfg.Memory != nil, "Memory is missing")
	require(full.Silence > 0, "Silence %v is not above 0", full.Silence)
	require(full.Timeout >= full.Silence, "Timeout %v is below Silence %v", full.Timeout, full.Silence)
	require(full.StragglerTimeout >= full.Timeout, "StragglerTimeout %v is below Timeout %v",
		full.StragglerTimeout, full.Timeout)
	return errors.Join(errs...)
}

func (cfg Config) withDefaults() Config {
	orDefault := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	orDefault(&cfg.Timeout, DefaultTimeout)
	orDefault(&cfg.Silence, DefaultSilence)
	orDefault(&cfg.StragglerTimeout, DefaultStragglerTimeout)
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return cfg
}

// Coordinator serves requests on behalf of all replicas. Safe for concurrent use.
//
// It starts goroutines for requests alone: one per replica asked. Those that a reply did not
// wait for end by themselves within StragglerTimeout; Close waits for them.
type Coordinator struct {
	cfg     Config
	replica *Replica
	turn    atomic.Uint32 // spreads reads over peers
	// latecomers are those that were late with an answer to a read, by id, and when (time.Time).
	latecomers sync.Map
	mending    sync.Map // keys whose damaged records are being mended

	ended   endings
	clients atomic.Int64   // requests under way
	running sync.WaitGroup // requests and the calls they started
	mu      sync.Mutex     // guards closed, and running against Add after Wait
	closed  bool
}

// New returns a coordinator, or all that is wrong with cfg.
func New(cfg Config) (*Coordinator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("coordinator configuration: %w", err)
	}
	cfg = cfg.withDefaults()
	cfg.Logger = cfg.Logger.Named("replication")
	return &Coordinator{
		cfg:     cfg,
		replica: NewReplica(cfg.Store, cfg.Memory, cfg.Clock, cfg.Origin, cfg.Now),
	}, nil
}

// Replica returns the storing side of this node, for the requests of peers.
func (c *Coordinator) Replica() *Replica { return c.replica }

// Close makes new calls fail with ErrClosed and waits until requests under way have ended and
// stragglers too: at most StragglerTimeout, as long as peers and the own disk answer or fail
// in theirs. Closing again just waits as well.
func (c *Coordinator) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.running.Wait()
}

// Busy reports whether a client's request is under way.
func (c *Coordinator) Busy() bool { return c.clients.Load() > 0 }

// enter lets a request in; whoever was let in calls leave at the end.
func (c *Coordinator) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.clients.Add(1)
	c.running.Add(1)
	return nil
}

func (c *Coordinator) leave() {
	c.clients.Add(-1)
	c.running.Done()
}

// Writable returns nil, or why a Put at the default level would not pass now: an error that
// wraps ErrNotReady, or a *QuorumError. It asks nobody.
func (c *Coordinator) Writable() error {
	r := c.newRequest(opPut, LevelDefault)
	if err := c.cfg.Store.Writable(); err != nil {
		r.part(r.self).fail(err)
	}
	return r.admitWrite()
}

// Readable returns nil, or why a Get at the default level would not pass now: an error that
// wraps ErrNotReady, or a *QuorumError. It asks nobody.
func (c *Coordinator) Readable() error { return c.newRequest(opGet, LevelDefault).admitRead() }

// report tells Members what a call to a peer, begun at the given time, says about it. What its
// store says about a record is an answer, and so is that it has not caught up. A call may have
// left later than it was begun, but not earlier, so that it accuses nobody who was back by then.
func (c *Coordinator) report(id string, sent time.Time, err error) {
	if errors.Is(err, ErrNotSent) {
		return
	}
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotReady) {
		c.cfg.Members.Answered(id)
		return
	}
	c.cfg.Members.Failed(id, sent, err)
}

// give writes the one record in records to a replica and returns what it then has: the record
// or something newer. It takes as long as the replica does, at most StragglerTimeout, and goes
// on when ctx ends: a write that is on its way is not called back.
func (c *Coordinator) give(ctx context.Context, self, id string, records []Record) (Meta, error) {
	if id == self {
		return accepted(c.replica.Write(records), records[0])
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.StragglerTimeout)
	defer cancel()
	sent := time.Now()
	outcomes, err := c.cfg.Peers.Write(ctx, id, records)
	if err != nil {
		c.report(id, sent, err)
		return Meta{}, err
	}
	held, err := accepted(outcomes, records[0])
	if errors.Is(err, errNonsense) {
		c.report(id, sent, err)
		return Meta{}, err
	}
	c.report(id, sent, nil)
	if errors.Is(err, ErrClosed) { // it leaves, and says so for each write
		c.cfg.Logger.Debug("replica takes no writes any more", "node", id, "key", records[0].Key, "error", err)
	} else if err != nil {
		c.cfg.Logger.Warn("replica refused a write", "node", id, "key", records[0].Key, "error", err)
	}
	return held, err
}

// accepted returns what a replica has after it was given one record.
func accepted(outcomes []Outcome, record Record) (Meta, error) {
	if len(outcomes) != 1 {
		return Meta{}, fmt.Errorf("%w: %d outcomes for one record", errNonsense, len(outcomes))
	}
	current, err := outcomes[0].Current, outcomes[0].Err
	if err == nil && current.Version.Compare(record.Version) < 0 {
		return Meta{}, fmt.Errorf("%w: has %v after it was given %v", errNonsense, current.Version, record.Version)
	}
	return current, err
}
