package roster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
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
	// Promised and Accepted are this node's part in deciding what follows Roster.
	Promised Ballot    `json:"promised"`
	Accepted *proposal `json:"accepted,omitempty"`
}

// Knowledge is what ledgers tell each other: the roster in force, and the one that this node
// has accepted to follow it, if any.
type Knowledge struct {
	Roster   Roster  `json:"roster"`
	Accepted *Roster `json:"accepted,omitempty"`
}

// ErrOtherCluster is returned by Merge and Answer for knowledge of another cluster.
var ErrOtherCluster = errors.New("roster of another cluster")

// ErrMoved is returned by Join when the roster has changed since the decision to join.
var ErrMoved = errors.New("roster has changed meanwhile")

// Ledger is one node's durable copy of the roster and its part in changing it. Safe for
// concurrent use.
type Ledger struct {
	self string
	save func([]byte) error

	mu    sync.Mutex // guards all below
	state state
	// round is the highest ballot round heard of, a hint for the next proposal.
	round uint64
	// heard holds rosters that other nodes have accepted to follow the one in force, by hash.
	// It need not be durable: a quorum tells it again.
	heard map[string]Roster
}

// Open returns the ledger of node self. saved is what save was last called with, nil for a
// new node. save must make its argument durable before it returns; it is called with a lock
// held and must not call the ledger.
func Open(self string, saved []byte, save func([]byte) error) (*Ledger, error) {
	l := &Ledger{self: self, save: save}
	if saved == nil {
		return l, nil
	}
	if err := json.Unmarshal(saved, &l.state); err != nil {
		return nil, fmt.Errorf("read saved roster: %w", err)
	}
	if !l.state.Roster.IsZero() {
		if err := l.state.Roster.validate(); err != nil {
			return nil, fmt.Errorf("read saved roster: %w", err)
		}
	}
	return l, nil
}

// Roster returns the roster in force, the zero Roster if this node is in no cluster yet.
func (l *Ledger) Roster() Roster {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Roster
}

// Rosters returns the roster in force and those that may follow it or may have done so
// already without this node knowing. A quorum is one only if it is in each of them. It is
// empty if this node is in no cluster yet.
func (l *Ledger) Rosters() []Roster {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Roster.IsZero() {
		return nil
	}
	rosters := []Roster{l.state.Roster}
	if l.state.Accepted != nil {
		rosters = append(rosters, l.state.Accepted.Next)
	}
	for _, next := range l.heard {
		if l.state.Accepted == nil || !l.state.Accepted.Next.Equal(next) {
			rosters = append(rosters, next)
		}
	}
	return rosters
}

// Pending reports whether a change is under way whose fate is not known here.
func (l *Ledger) Pending() bool { return len(l.Rosters()) > 1 }

// Stamp returns a short text that differs between ledgers with different knowledge.
func (l *Ledger) Stamp() string {
	k := l.Knowledge()
	if k.Roster.IsZero() {
		return "none"
	}
	stamp := k.Roster.Hash()
	if k.Accepted != nil {
		stamp += "+" + k.Accepted.Hash()
	}
	return stamp
}

// Knowledge returns what l tells other ledgers.
func (l *Ledger) Knowledge() Knowledge {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := Knowledge{Roster: l.state.Roster}
	if l.state.Accepted != nil {
		k.Accepted = &l.state.Accepted.Next
	}
	return k
}

// Join makes next the roster in force, of whatever cluster it is: a node founds a cluster or
// begins to learn in one. before is the roster that this was decided on; if it is not in force
// any more, or a change of it is under way, Join does nothing and returns ErrMoved.
func (l *Ledger) Join(before, next Roster) error {
	if err := next.validate(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.state.Roster.Equal(before) || l.state.Accepted != nil {
		return ErrMoved
	}
	return l.replace(next)
}

// Force makes c without asking anybody. For operators, when no majority is left to ask.
func (l *Ledger) Force(c Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next, err := l.state.Roster.With(c)
	if err != nil {
		return err
	}
	return l.replace(next)
}

// Merge takes in what another ledger knows and reports whether that was news.
// ErrOtherCluster: it belongs to another cluster, or l is in none yet; nothing was merged.
func (l *Ledger) Merge(k Knowledge) (news bool, err error) {
	if k.Roster.IsZero() {
		return false, nil
	}
	if err := k.validate(); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.merge(k)
}

func (l *Ledger) merge(k Knowledge) (news bool, err error) {
	ours := l.state.Roster
	if ours.Cluster != k.Roster.Cluster {
		return false, ErrOtherCluster
	}
	if !ours.Contains(k.Roster) {
		if err := l.replace(ours.union(k.Roster)); err != nil {
			return false, err
		}
		news = true
	}
	if k.Accepted == nil || !k.Roster.Equal(l.state.Roster) {
		return news, nil
	}
	hash := k.Accepted.Hash()
	if _, known := l.heard[hash]; known {
		return news, nil
	}
	if l.heard == nil {
		l.heard = make(map[string]Roster)
	}
	l.heard[hash] = *k.Accepted
	return true, nil
}

// replace puts next in force, durably. What was promised and accepted was about the roster
// before, so it goes.
func (l *Ledger) replace(next Roster) error {
	if err := l.put(state{Roster: next}); err != nil {
		return err
	}
	l.heard = nil
	return nil
}

func (l *Ledger) put(s state) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := l.save(append(b, '\n')); err != nil {
		return fmt.Errorf("save roster: %w", err)
	}
	l.state = s
	return nil
}

func (k Knowledge) validate() error {
	if err := k.Roster.validate(); err != nil {
		return err
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
// error means that nothing was promised or accepted.
func (l *Ledger) Answer(m Message) (Reply, error) {
	if m.From.Roster.IsZero() {
		return Reply{}, ErrOtherCluster
	}
	if err := m.From.validate(); err != nil {
		return Reply{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.merge(m.From); err != nil {
		return Reply{}, err
	}
	// A promise is for a ballot above all promised before, so that a proposer that restarts
	// cannot use one of its ballots for two values.
	ballot := m.Ballot.compare(l.state.Promised)
	ok := m.Base == l.state.Roster.Hash() && l.state.Roster.Has(l.self) && (ballot > 0 || ballot == 0 && m.Next != nil)
	if ok {
		s := l.state
		s.Promised = m.Ballot
		if m.Next != nil {
			if _, err := l.state.Roster.changeTo(*m.Next); err != nil {
				return Reply{}, err
			}
			s.Accepted = &proposal{Ballot: m.Ballot, Next: *m.Next}
		}
		if err := l.put(s); err != nil {
			return Reply{}, err
		}
	}
	r := Reply{OK: ok, From: Knowledge{Roster: l.state.Roster}, Promised: l.state.Promised}
	if a := l.state.Accepted; a != nil {
		r.From.Accepted, r.Ballot = &a.Next, a.Ballot
	}
	return r, nil
}

// pending returns a roster that somebody accepted to follow the one in force.
func (l *Ledger) pending() (Roster, bool) {
	rosters := l.Rosters()
	if len(rosters) < 2 {
		return Roster{}, false
	}
	return slices.MinFunc(rosters[1:], func(a, b Roster) int { return cmp.Compare(a.Hash(), b.Hash()) }), true
}
