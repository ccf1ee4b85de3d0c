package membership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/protocol7/snakes/membership/roster"
)

// message is what memberships ask each other over Link. One field is set.
type message struct {
	// Agree is the request of a roster's proposer.
	Agree *roster.Message `json:"agree,omitempty"`
	// News is told, and answered with News.
	News *news `json:"news,omitempty"`
	// Stopping is the last that the sender, which is about to end, says of itself.
	Stopping *info `json:"stopping,omitempty"`
	// Ping asks for nothing but an answer.
	Ping bool `json:"ping,omitempty"`
}

// answer is the answer to a message.
type answer struct {
	Agree *roster.Reply `json:"agree,omitempty"`
	News  *news         `json:"news,omitempty"`
	// Origin tells which process answers.
	Origin uint64 `json:"origin"`
}

// Hello is how a node introduces itself with each request to another.
type Hello struct {
	// ID is its node id, ClusterID the cluster that it goes by, empty while it is joining.
	ID, ClusterID string
	// Address is where it is reached, as it says.
	Address string
	// Origin is the number its process drew.
	Origin uint64
}

// askTimeout bounds one message between memberships.
const askTimeout = time.Second

// Admit decides whether requests of a node are served. ErrRemoved: it has left or was
// forgotten. ErrOtherCluster: it belongs elsewhere. ErrTwin: another live process has its id;
// to find out, Admit may ask that process, for at most half a second.
//
// A node of this cluster is enrolled by the time Admit returns nil, see Enroll. What it writes
// here and reads from here it has, too: was it forgotten, and then away while such a key is
// deleted, it could bring the key back. It may ask for something before its gossip tells of it.
func (m *Membership) Admit(ctx context.Context, h Hello) error {
	s := m.Snapshot()
	switch {
	case m.ledger.Roster().HasRemoved(h.ID):
		return ErrRemoved
	case h.ClusterID != "" && s.ClusterID != "" && h.ClusterID != s.ClusterID:
		return ErrOtherCluster
	}
	if err := m.admitProcess(ctx, h); err != nil {
		return err
	}
	if h.ClusterID == "" || h.ClusterID != s.ClusterID || m.standing().enrolled(h.ID) {
		return nil
	}
	return m.Enroll(h.ID)
}

// admitProcess lets one process per node id in. A node that restarted has another origin: at
// the same address it is the only one that can answer there; at another, the old one is asked.
func (m *Membership) admitProcess(ctx context.Context, h Hello) error {
	if h.ID == m.cfg.ID {
		if h.Origin == m.cfg.Origin {
			return nil
		}
		return ErrTwin
	}
	m.mu.Lock()
	p, known := m.peers[h.ID]
	var before peer
	if known {
		before = *p
	}
	m.mu.Unlock()
	if !known || before.origin == h.Origin {
		return nil
	}
	if before.info.Address != h.Address {
		ctx, cancel := context.WithTimeout(ctx, askTimeout/2)
		defer cancel()
		if a, err := m.ask(ctx, h.ID, before.info.Address, message{Ping: true}); err == nil && a.Origin != h.Origin {
			m.logger.Error("two processes have one node id", "id", h.ID, "address", before.info.Address, "refused", h.Address)
			return ErrTwin
		}
	}
	m.update(func() {
		if p, known := m.peers[h.ID]; known {
			p.origin = h.Origin
			if validAddress(h.Address) == nil && p.info.Address != h.Address {
				p.info.Address = h.Address // gossip will tell the same once it counts the old process as dead
			}
		}
	})
	notify(m.rejoin)
	return nil
}

// Consent answers a message of another membership, which came from h. An error means that the
// message was refused or made no sense.
func (m *Membership) Consent(ctx context.Context, h Hello, b []byte) ([]byte, error) {
	var ask message
	if err := json.Unmarshal(b, &ask); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadMessage, err)
	}
	if ask.fields() != 1 {
		return nil, fmt.Errorf("%w: it asks for several things at once, or for nothing", ErrBadMessage)
	}
	if ask.News == nil { // news may be asked for by anybody who looks for a cluster
		if err := m.Admit(ctx, h); err != nil {
			return nil, err
		}
	}
	a := answer{Origin: m.cfg.Origin}
	switch {
	case ask.Agree != nil:
		if !m.synced() {
			return nil, ErrNotSynced
		}
		if leaver := ask.Agree.Want.Remove; leaver != h.ID {
			if err := m.wouldMiss(leaver); err != nil {
				return nil, err
			}
		}
		reply, err := m.ledger.Answer(*ask.Agree)
		if err != nil {
			return nil, err
		}
		a.Agree = &reply
	case ask.News != nil:
		m.hearOf(*ask.News) // of another cluster: not merged, but answered, since the sender may want in
		n := m.news()
		a.News = &n
	case ask.Stopping != nil:
		if err := ask.Stopping.validate(); err != nil {
			return nil, err
		}
		m.update(func() {
			if m.peers[h.ID] != nil {
				m.takeInfo(h.ID, *ask.Stopping)
			}
		})
	}
	return json.Marshal(a)
}

// fields returns how many things m asks for.
func (m message) fields() int {
	n := 0
	for _, set := range []bool{m.Agree != nil, m.News != nil, m.Stopping != nil, m.Ping} {
		if set {
			n++
		}
	}
	return n
}

// wouldMiss returns an error if the node that somebody wants to remove is alive, as far as
// this node can tell. With a cut between two members only, either may take the other for gone.
func (m *Membership) wouldMiss(id string) error {
	if id == "" {
		return nil
	}
	if member, known := m.Snapshot().Member(id); known && !m.gone(id) {
		return fmt.Errorf("%w: %s is %s", ErrMemberAlive, member.Name, member.State)
	}
	return nil
}

func (m *Membership) ask(ctx context.Context, id, address string, ask message) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	b, err := json.Marshal(ask)
	if err != nil {
		return answer{}, err
	}
	b, err = m.cfg.Link.Consent(ctx, id, address, b)
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return answer{}, fmt.Errorf("answer between members makes no sense: %w", err)
	}
	return a, nil
}

// Enroll makes node id known here durably, as a learner, if it is neither that nor a member
// already. It may wait for the disk. ErrRemoved: it has left or was forgotten. Any other error
// is that this node is in no cluster, or that it could not be saved.
func (m *Membership) Enroll(id string) error {
	err := m.ledger.Enroll(id)
	if err != nil && m.ledger.Roster().HasRemoved(id) {
		return ErrRemoved
	}
	return err
}

// Stamp returns a short text that changes whenever what this node knows of the roster does.
func (m *Membership) Stamp() string { return m.ledger.Stamp() }

// State returns all that this node knows of the roster, for Merge on another node.
func (m *Membership) State() []byte {
	b, err := json.Marshal(m.news())
	if err != nil {
		m.logger.Error("state not encoded", "error", err)
	}
	return b
}

// Merge takes in what State returned on another node, durably. By the time it returns it shows
// in Snapshot. What a node of another cluster knows is ignored.
func (m *Membership) Merge(state []byte) error {
	var n news
	if err := json.Unmarshal(state, &n); err != nil {
		return fmt.Errorf("state of another node makes no sense: %w", err)
	}
	return m.hear(n)
}

// hear merges what another node knows, if it is of the same cluster. The error is one of saving
// it, or that it made no sense.
func (m *Membership) hear(n news) error {
	switch err := m.ledger.Merge(n.Knowledge); {
	case errors.Is(err, roster.ErrOtherCluster):
		return nil
	case err != nil:
		return fmt.Errorf("merge the roster of another node: %w", err)
	}
	m.takeInfos(n.Infos)
	return nil
}

// hearOf is hear where nobody waits for the error.
func (m *Membership) hearOf(n news) {
	if err := m.hear(n); err != nil {
		m.logger.Warn("news not taken in", "error", err)
	}
}
