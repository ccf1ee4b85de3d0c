package membership

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Start begins to gossip and to look for the others. It returns once this node listens to
// them, not once it has found them. Looking up its own address takes 5 s at most.
func (m *Membership) Start() error {
	conf, err := m.listConfig()
	if err != nil {
		return err
	}
	m.started.Store(true)
	if m.list, err = memberlist.Create(conf); err != nil {
		m.endMeasuring()
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.loops.Go(func() { m.tend(ctx) })
	m.loops.Go(func() { m.publish(ctx) })
	m.loops.Go(func() { m.seek(ctx) })
	return nil
}

// Stop tells the others that this node ends in good order and is expected back, unless it was
// removed, ends gossip, and waits for all that Start began. Later calls do nothing. Telling takes two seconds at most
// if others are slow, and a call to another node that is under way up to four more.
func (m *Membership) Stop() {
	if m.list != nil {
		m.stopOnce()
	}
}

func (m *Membership) shutDown() {
	m.stop()
	if !m.doomed.Load() && !m.ledger.Roster().HasRemoved(m.cfg.ID) {
		m.sayGoodbye()
	}
	if err := m.list.Shutdown(); err != nil {
		m.logger.Debug("gossip did not end in good order", "error", err)
	}
	m.loops.Wait()
	m.endMeasuring()
}

// sayGoodbye tells the others that this node stops: those that answer directly, all by gossip.
func (m *Membership) sayGoodbye() {
	m.update(func() { m.self.Stopped = true })
	m.mu.Lock()
	last := m.self
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout/2)
	defer cancel()
	var all sync.WaitGroup
	for _, member := range m.Snapshot().Members {
		if member.ID != m.cfg.ID && member.Live {
			all.Go(func() {
				if _, err := m.ask(ctx, member.ID, member.Address, message{Stopping: &last}); err != nil {
					m.logger.Debug("member not told of the stop", "node", member.Name, "error", err)
				}
			})
		}
	}
	all.Wait()
	for _, step := range []func(time.Duration) error{m.updateNode, m.list.Leave} {
		if err := step(askTimeout / 2); err != nil {
			m.logger.Debug("stop not broadcast", "error", err)
		}
	}
}

// publish lets gossip carry what this node tells about itself, whenever that changes. It has a
// loop of its own since it waits until the news has been sent.
func (m *Membership) publish(ctx context.Context) {
	var told int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
		}
		m.mu.Lock()
		at := m.self.At
		m.mu.Unlock()
		if at == told || m.doomed.Load() {
			continue
		}
		told = at
		if err := m.updateNode(m.cfg.Pace / 2); err != nil {
			m.logger.Debug("update not broadcast yet", "error", err)
		}
	}
}

// updateNode broadcasts what this node tells about itself. memberlist's own method reads what
// it writes without a lock, so there is one call at a time.
func (m *Membership) updateNode(timeout time.Duration) error {
	m.updating.Lock()
	defer m.updating.Unlock()
	return m.list.UpdateNode(timeout)
}

// tend looks after the cluster whenever something changed, and now and then.
func (m *Membership) tend(ctx context.Context) {
	tick := time.NewTicker(m.cfg.Pace / 2)
	defer tick.Stop()
	var saved []byte
	var work backlog
	for {
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-tick.C:
		}
		saved = m.saveMembers(saved)
		if ctx.Err() != nil {
			return
		}
		m.settle(ctx)
		m.enrollLearners()
		m.tendRoster(ctx, &work)
		m.noticeBlockedPackets()
		m.rounds.Add(1)
	}
}
