package roster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Ballot orders the attempts to decide what follows one base. The zero Ballot is before all.
type Ballot struct {
	Round uint64 `json:"round"`
	Node  string `json:"node"` // who proposes; makes ballots distinct
}

func (b Ballot) compare(c Ballot) int {
	return cmp.Or(cmp.Compare(b.Round, c.Round), cmp.Compare(b.Node, c.Node))
}

// proposal is a roster that was accepted to follow the one in force, under a ballot.
type proposal struct {
	Ballot Ballot `json:"ballot"`
	Next   Roster `json:"next"`
}

// state is what a ledger keeps durably.
type state struct {
	// Roster is in force.
	Roster Roster `json:"roster"`
	// Learners are the nodes enrolled that Roster has neither added nor removed, ascending.
	// Invariant: whoever is in a roster that this node accepted to follow is in Roster or here.
	Learners []string `json:"learners,omitempty"`
	// Promised and Accepted are this node's part in deciding what follows Roster.
	Promised Ballot    `json:"promised"`
	Accepted *proposal `json:"accepted,omitempty"`
}

// accepted returns the roster accepted to follow, nil if there is none.
func (s state) accepted() *Roster {
	if s.Accepted == nil {
		return nil
	}
	return &s.Accepted.Next
}

// Knowledge is what ledgers tell each other: the roster in force, the one that this node has
// accepted to follow it, if any, and the learners, ascending, none of which the roster in force
// has added or removed.
type Knowledge struct {
	Roster   Roster   `json:"roster"`
	Accepted *Roster  `json:"accepted,omitempty"`
	Learners []string `json:"learners,omitempty"`
}

// ErrOtherCluster is returned by Merge and Answer for knowledge of another cluster.
var ErrOtherCluster = errors.New("roster of another cluster")

// ErrMoved is returned by Join when the roster has changed since the decision to join.
var ErrMoved = errors.New("roster has changed meanwhile")

// ErrNotEnrolled is returned, with the error of Save, by Merge and Answer if learners could not
// be saved. Merge has taken in the rest of what it was told.
var ErrNotEnrolled = errors.New("learners not enrolled")

// Ledger is one node's durable copy of the roster and its part in changing it. Safe for
// concurrent use. What only looks never waits for the disk.
type Ledger struct {
	cfg Config

	known atomic.Pointer[known]

	mu sync.Mutex // held while known changes, and so while it is saved
	// round is the highest ballot round heard of, a hint for the next proposal.
	round atomic.Uint64
}

// known is what a ledger knows at one moment. It is immutable.
type known struct {
	state
	// heard holds rosters that other nodes have accepted to follow the one in force, by hash.
	// It need not be durable: a quorum tells it again.
	heard map[string]Roster

	stamping sync.Once // guards stamped
	stamped  string
}

// Config is what a Ledger works with.
type Config struct {
	// Self is the id of this node.
	Self string
	// Saved is what Save was last called with, nil for a new node.
	Saved []byte
	// Save makes its argument durable before it returns. It is called with a lock held and must
	// not call what changes the ledger.
	Save func([]byte) error
	// Changed is called after each change of what the ledger knows, without a lock, before the
	// call that made the change returns. Nil: nobody is told.
	Changed func()
}

// Open returns the ledger of a node. The error says that what was saved makes no sense.
func Open(cfg Config) (*Ledger, error) {
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	l := &Ledger{cfg: cfg}
	var s state
	if cfg.Saved != nil {
		if err := json.Unmarshal(cfg.Saved, &s); err != nil {
			return nil, fmt.Errorf("read saved roster: %w", err)
		}
		if !s.Roster.IsZero() {
			if err := s.knowledge().validate(); err != nil {
				return nil, fmt.Errorf("read saved roster: %w", err)
			}
		}
	}
	l.known.Store(&known{state: s})
	return l, nil
}

// while runs f with the right to change what l knows, and tells of the change if there was one.
func (l *Ledger) while(f func() error) error {
	l.mu.Lock()
	before := l.known.Load()
	err := f()
	changed := l.known.Load() != before
	l.mu.Unlock()
	if changed {
		l.cfg.Changed()
	}
	return err
}

// Roster returns the roster in force, the zero Roster if this node is in no cluster yet.
func (l *Ledger) Roster() Roster { return l.known.Load().Roster }

// Rosters returns the roster in force and those that may follow it or may have done so
// already without this node knowing. A quorum is one only if it is in each of them. It is
// empty if this node is in no cluster yet.
func (l *Ledger) Rosters() []Roster {
	k := l.known.Load()
	if k.Roster.IsZero() {
		return nil
	}
	rosters := []Roster{k.Roster}
	if k.Accepted != nil {
		rosters = append(rosters, k.Accepted.Next)
	}
	for _, hash := range slices.Sorted(maps.Keys(k.heard)) {
		if next := k.heard[hash]; k.Accepted == nil || !k.Accepted.Next.Equal(next) {
			rosters = append(rosters, next)
		}
	}
	return rosters
}

// Pending reports whether a change is under way whose fate is not known here.
func (l *Ledger) Pending() bool { return len(l.Rosters()) > 1 }

// Stamp returns a short text that differs between ledgers that would tell different things. It
// costs nothing unless something has changed since the last call: each request between nodes has it.
func (l *Ledger) Stamp() string { return l.known.Load().stamp() }

func (k *known) stamp() string {
	k.stamping.Do(func() {
		told := k.knowledge()
		if told.Roster.IsZero() {
			k.stamped = "none"
			return
		}
		k.stamped = told.Roster.Hash()
		if told.Accepted != nil {
			k.stamped += "+" + told.Accepted.Hash()
		}
		if len(told.Learners) > 0 {
			k.stamped += "*" + Roster{Added: told.Learners}.Hash()
		}
	})
	return k.stamped
}

// Knowledge returns what l tells other ledgers.
func (l *Ledger) Knowledge() Knowledge { return l.known.Load().knowledge() }

func (s state) knowledge() Knowledge {
	return Knowledge{Roster: s.Roster, Accepted: s.accepted(), Learners: s.Learners}
}

// Learners returns the nodes that are known durably but are not in the roster in force, and
// were not removed, ascending. Whoever is in a roster proposed to follow it is among them.
func (l *Ledger) Learners() []string { return l.known.Load().Learners }

// Enroll makes node id a learner, durably, unless it is one or is in the roster in force.
// ErrBadChange: it was removed, or is no node id, or this node is in no cluster.
func (l *Ledger) Enroll(id string) error {
	return l.while(func() error {
		r := l.known.Load().Roster
		switch {
		case r.IsZero():
			return fmt.Errorf("%w: it belongs to no cluster", ErrBadChange)
		case r.HasRemoved(id):
			return fmt.Errorf("%w: %s was removed", ErrBadChange, id)
		case !isID(id):
			return fmt.Errorf("%w: %.40q is no node id", ErrBadChange, id)
		}
		return l.enroll([]string{id})
	})
}

// enroll makes learners of those ids, ascending, that the roster in force says nothing about.
// It is called by while.
func (l *Ledger) enroll(ids []string) error {
	s := l.known.Load().state
	learners := s.Roster.strangers(merge(s.Learners, ids))
	if len(learners) == len(s.Learners) {
		return nil
	}
	s.Learners = learners
	return l.put(s)
}

// Join makes next the roster in force, which must be of another cluster: a node founds a
// cluster, or becomes a learner in one. before is the roster that this was decided on; if it is not in force
// any more, or a change of it is under way, Join does nothing and returns ErrMoved.
func (l *Ledger) Join(before, next Roster) error {
	if err := next.validate(); err != nil {
		return err
	}
	if next.Cluster == before.Cluster {
		return fmt.Errorf("%w: joining the cluster that it is of", ErrBadChange)
	}
	return l.while(func() error {
		if k := l.known.Load(); !k.Roster.Equal(before) || k.Accepted != nil {
			return ErrMoved
		}
		return l.put(state{Roster: next, Learners: []string{l.cfg.Self}})
	})
}

// Force makes c without asking anybody. For operators, when no majority is left to ask. Two
// ledgers that force each other's members out merge to a roster without members, in which no
// quorum is possible any more.
func (l *Ledger) Force(c Change) error {
	return l.while(func() error {
		s := l.known.Load().state
		next, err := s.Roster.With(c)
		if err != nil {
			return err
		}
		return l.put(state{Roster: next, Learners: s.Learners})
	})
}

// Merge takes in what another ledger knows. ErrOtherCluster: it belongs to another cluster, or
// l is in none yet; nothing was merged.
func (l *Ledger) Merge(k Knowledge) error {
	if k.Roster.IsZero() {
		return nil
	}
	if err := k.validate(); err != nil {
		return err
	}
	return l.while(func() error { return l.merge(k) })
}

// merge is called by while.
func (l *Ledger) merge(k Knowledge) error {
	ours := l.known.Load().state
	if ours.Roster.Cluster != k.Roster.Cluster {
		return ErrOtherCluster
	}
	if !ours.Roster.Contains(k.Roster) {
		// What was promised and accepted was about the roster before, so it goes.
		next := state{Roster: ours.Roster.union(k.Roster), Learners: merge(ours.Learners, k.Learners)}
		if err := l.put(next); err != nil {
			return err
		}
	}
	learners := k.Learners
	if k.Accepted != nil {
		l.hearOf(k.Roster, *k.Accepted)
		learners = merge(learners, k.Accepted.Added)
	}
	// Last: a node whose disk fails must count quorums in all rosters that it hears of.
	if err := l.enroll(learners); err != nil {
		return fmt.Errorf("%w: %w", ErrNotEnrolled, err)
	}
	return nil
}

// hearOf notes that another node has accepted next to follow base. It is called by while.
func (l *Ledger) hearOf(base, next Roster) {
	now := l.known.Load()
	hash := next.Hash()
	if _, known := now.heard[hash]; known || !base.Equal(now.Roster) {
		return
	}
	heard := maps.Clone(now.heard)
	if heard == nil {
		heard = make(map[string]Roster)
	}
	heard[hash] = next
	l.known.Store(&known{state: now.state, heard: heard})
}

// put makes s durable and known. It is called by while.
func (l *Ledger) put(s state) error {
	s.Learners = s.Roster.strangers(s.Learners)
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := l.cfg.Save(append(b, '\n')); err != nil {
		return fmt.Errorf("save roster: %w", err)
	}
	next := &known{state: s}
	if before := l.known.Load(); before.Roster.Equal(s.Roster) {
		next.heard = before.heard
	}
	l.known.Store(next)
	return nil
}

func (k Knowledge) validate() error {
	if err := k.Roster.validate(); err != nil {
		return err
	}
	if err := validateIDs(k.Learners); err != nil {
		return err
	}
	if len(k.Roster.strangers(k.Learners)) != len(k.Learners) {
		return errors.New("a learner is in the roster or was removed")
	}
	if k.Accepted == nil {
		return nil
	}
	_, err := k.Roster.changeTo(*k.Accepted)
	return err
}

// Message is a request from one ledger to another.
type Message struct {
	// From is what the sender knows; the receiver merges it first.
	From Knowledge `json:"from"`
	// Base is the hash of the roster to be followed.
	Base   string `json:"base"`
	Ballot Ballot `json:"ballot"`
	// Next is the roster to accept; nil asks for a promise only.
	Next *Roster `json:"next,omitempty"`
	// Want is, with a request for a promise, the change that the sender would make. Whoever
	// knows better refuses, as long as nobody has accepted it.
	Want Change `json:"want"`
}

// Reply is the answer to a Message.
type Reply struct {
	// OK: promised, or accepted.
	OK bool `json:"ok"`
	// From is what the answering ledger knows, of another base than asked for if that is why
	// it refuses.
	From Knowledge `json:"from"`
	// Promised is the highest ballot that the answering ledger has promised.
	Promised Ballot `json:"promised"`
	// Ballot is the one under which it accepted From.Accepted.
	Ballot Ballot `json:"ballot"`
}

// Answer plays the acceptor of Paxos for a message from another ledger or from l itself. An
// error means that nothing was promised or accepted; what the message told may be merged.
func (l *Ledger) Answer(m Message) (r Reply, err error) {
	if m.From.Roster.IsZero() {
		return Reply{}, ErrOtherCluster
	}
	if err := m.From.validate(); err != nil {
		return Reply{}, err
	}
	err = l.while(func() error {
		if err := l.merge(m.From); err != nil {
			return err
		}
		ok, err := l.consent(m)
		if err != nil {
			return err
		}
		k := l.known.Load()
		r = Reply{OK: ok, From: k.knowledge(), Promised: k.Promised}
		if k.Accepted != nil {
			r.Ballot = k.Accepted.Ballot
		}
		return nil
	})
	return r, err
}

// consent promises or accepts, if it may. It is called by while.
func (l *Ledger) consent(m Message) (ok bool, err error) {
	s := l.known.Load().state
	// A promise is for a ballot above all promised before, so that a proposer that restarts
	// cannot use one of its ballots for two values.
	ballot := m.Ballot.compare(s.Promised)
	if m.Base != s.Roster.Hash() || !s.Roster.Has(l.cfg.Self) || ballot < 0 || ballot == 0 && m.Next == nil {
		return false, nil
	}
	s.Promised = m.Ballot
	if m.Next != nil {
		if _, err := s.Roster.changeTo(*m.Next); err != nil {
			return false, err
		}
		s.Accepted = &proposal{Ballot: m.Ballot, Next: *m.Next}
		s.Learners = merge(s.Learners, m.Next.Added)
	}
	return true, l.put(s)
}

// pending returns a roster that somebody accepted to follow the one in force.
func (l *Ledger) pending() (Roster, bool) {
	rosters := l.Rosters()
	if len(rosters) < 2 {
		return Roster{}, false
	}
	return rosters[1], true
}
