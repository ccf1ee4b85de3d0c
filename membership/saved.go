package membership

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
)

// The names under which Storage keeps what survives a restart.
const (
	rosterState  = "roster"
	membersState = "members"
	nameState    = "cluster"
)

// keepName makes sure that the data stays with clusters of one name, the first that it had.
func (m *Membership) keepName() error {
	saved, err := m.cfg.Storage.LoadState(nameState)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m.cfg.Storage.SaveState(nameState, []byte(m.cfg.Cluster))
	case err != nil:
		return err
	case string(saved) != m.cfg.Cluster:
		return fmt.Errorf("%w: of %q, not %q", ErrOtherName, saved, m.cfg.Cluster)
	}
	return nil
}

// loadMembers reads the names and addresses of members and learners, so that they are shown
// and tried after a restart, and the last time that this node said something of itself.
func (m *Membership) loadMembers() error {
	b, err := m.cfg.Storage.LoadState(membersState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var infos map[string]info
	if err := json.Unmarshal(b, &infos); err != nil {
		return fmt.Errorf("read saved members: %w", err)
	}
	if own, saved := infos[m.cfg.ID]; saved {
		m.lastAt = own.At
		delete(infos, m.cfg.ID)
	}
	m.others = maps.Clone(infos)
	if m.ledger.Roster().IsZero() {
		maps.DeleteFunc(infos, func(_ string, i info) bool { return i.Address == m.cfg.Address })
		m.former = infos
		return nil
	}
	for id, i := range infos {
		m.peers[id] = &peer{info: i}
	}
	return nil
}

// saveMembers makes what members and learners say of themselves durable and returns it. saved is what
// was made durable last; nothing is done if that is the same.
//
// What is on disk is how a removed node finds back, so it stands while this node is in no cluster
// or was removed, as others may have been with it; and the last others are kept while there are
// none: when two forget each other, each is left with nobody before it hears that it is removed.
func (m *Membership) saveMembers(saved []byte) []byte {
	if r := m.ledger.Roster(); r.IsZero() || r.HasRemoved(m.cfg.ID) {
		return saved
	}
	m.mu.Lock()
	infos := m.infos()
	if len(infos) > 1 {
		m.others = maps.Clone(infos)
		delete(m.others, m.cfg.ID)
	}
	maps.Copy(infos, m.others)
	m.mu.Unlock()
	b, err := json.MarshalIndent(infos, "", "  ")
	if err == nil && bytes.Equal(b, saved) {
		return saved
	}
	if err == nil {
		err = m.cfg.Storage.SaveState(membersState, b)
	}
	if err != nil {
		m.logger.Debug("names and addresses of members not saved", "error", err)
		return saved
	}
	return b
}

// infos returns what members and learners say of themselves, self included. The caller holds mu.
func (m *Membership) infos() map[string]info {
	infos := map[string]info{m.cfg.ID: m.self}
	stands := m.standing()
	for id, p := range m.peers {
		if stands.enrolled(id) {
			infos[id] = p.info
		}
	}
	return infos
}

// takeInfos takes in what another node knows of members and learners. It is hearsay: whoever
// gossips with this node has told its address itself, and keeps it.
func (m *Membership) takeInfos(infos map[string]info) {
	m.update(func() {
		stands := m.standing()
		for id, i := range infos {
			if !stands.enrolled(id) || i.validate() != nil {
				continue
			}
			if id == m.cfg.ID {
				// Somebody holds something later for what this node says: it was told before the
				// clock was set back. What is said now must be later still.
				m.lastAt = max(m.lastAt, i.At)
				continue
			}
			if p, known := m.peers[id]; known && p.gossiping {
				i.Address = p.info.Address
			}
			m.takeInfo(id, i)
		}
	})
}

// takeInfo takes the later of two infos of a node and returns the node. The caller holds mu.
func (m *Membership) takeInfo(id string, i info) *peer {
	p, known := m.peers[id]
	if !known {
		p = &peer{}
		m.peers[id] = p
	}
	if !known || i.At > p.info.At {
		p.info = i
	}
	return p
}
