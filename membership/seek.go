package membership

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// remindEvery is how often a node that joins nobody says why.
const remindEvery = 30 * time.Second

// seek dials seeds and members that are not alive, for ever: memberlist itself forgets a dead
// node and would never heal a long split.
func (m *Membership) seek(ctx context.Context) {
	m.introduce(ctx)
	var onlySelfSince time.Time
	var warnedAt time.Time
	began := time.Now()
	sought := sync.OnceFunc(func() { close(m.sought) })
	for !m.doomed.Load() {
		reached, onlySelf, why := m.dialAll(ctx)
		sought()
		joining := !m.Snapshot().Joined()
		switch {
		case !joining || !onlySelf:
			onlySelfSince = time.Time{}
		case onlySelfSince.IsZero():
			onlySelfSince = time.Now()
		case time.Since(onlySelfSince) >= m.cfg.FoundAfter && !m.exiled():
			if err := m.found("no seed is another node"); err != nil {
				m.logger.Warn("cluster not founded", "error", err)
			}
		}
		outcast := m.exiled() && time.Since(began) >= m.cfg.FoundAfter // before that it may be on its way back
		if joining && (outcast || !reached && !onlySelf) && time.Since(warnedAt) > remindEvery {
			warnedAt = time.Now()
			m.remind(why)
		}
		pause := m.cfg.RejoinEvery
		if joining {
			pause = min(pause/4, m.cfg.FoundAfter/4)
		}
		pause = pause*3/4 + rand.N(pause/2)
		select {
		case <-ctx.Done():
			return
		case <-m.rejoin:
		case <-time.After(pause):
		}
	}
}

// remind says why this node is in no cluster yet.
func (m *Membership) remind(why error) {
	message := "no seed answers as a node of this cluster yet; trying for ever"
	if m.keyring != nil {
		message = "no seed answers as a node of this cluster with a secret that this node accepts yet; trying for ever"
	}
	if m.exiled() {
		message = "this node was removed from its cluster, founds none, and no seed took it in yet; " +
			"trying for ever, but it may have to be started with --join and the address of a member"
	}
	m.logger.Warn(message, "cluster", m.cfg.Cluster, "seeds", m.seeds(), "error", why)
}

// introduce says hello to the members known from earlier before gossip spreads this node's
// address: if one of them knows another live process with its id, this one ends unheard.
func (m *Membership) introduce(ctx context.Context) {
	var all sync.WaitGroup
	for _, member := range m.Snapshot().Members {
		if member.ID != m.cfg.ID && member.Address != "" {
			all.Go(func() {
				_, err := m.ask(ctx, member.ID, member.Address, message{Ping: true})
				m.Refused(err)
			})
		}
	}
	all.Wait()
}

// dialAll tries every address at which somebody may be who does not gossip with this node. It
// reports whether anybody was there, whether all seeds are this node itself, and why nobody was.
func (m *Membership) dialAll(ctx context.Context) (reached, onlySelf bool, why error) {
	targets, seeds, unresolved := m.targets(ctx)
	others := make(map[netip.AddrPort]bool) // outcome by address that is not known to be our own
	var mu sync.Mutex
	var all sync.WaitGroup
	places := make(chan struct{}, 8)
	for _, target := range targets {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if ctx.Err() != nil {
				return
			}
			_, err := m.list.Join([]string{target.String()})
			mu.Lock()
			defer mu.Unlock()
			others[target] = err == nil
			if err != nil { // memberlist lists errors on lines of their own
				why = errors.New(strings.Join(strings.Fields(err.Error()), " "))
			}
		})
	}
	all.Wait()
	alone := m.list.NumMembers() == 1
	onlySelf = len(seeds) > 0 && !unresolved && alone
	for _, seed := range seeds {
		// An address that answers while we know nobody is our own under another name.
		if answers, dialed := others[seed]; dialed && !answers {
			onlySelf = false
		}
	}
	if unresolved && why == nil {
		why = errors.New("a seed's name does not resolve")
	}
	return !alone, onlySelf, why
}

// seeds returns the addresses at which to look for a cluster: those that were given and, for a
// node without a roster, those of the members that it had.
func (m *Membership) seeds() []string {
	seeds := slices.Clone(m.cfg.Seeds)
	if m.ledger.Roster().IsZero() {
		for _, i := range m.former {
			seeds = append(seeds, i.Address)
		}
	}
	return seeds
}

// targets returns the addresses to dial, those that the seeds stand for, and whether some seed
// stands for none now.
func (m *Membership) targets(ctx context.Context) (targets, seeds []netip.AddrPort, unresolved bool) {
	skip := make(map[netip.AddrPort]bool) // ourselves and those who gossip with us already
	for _, own := range append(resolve(ctx, m.cfg.Address), m.cfg.Transport.Addr()) {
		skip[own] = true
	}
	var away []string
	s := m.Snapshot()
	for _, member := range s.Members {
		if member.ID == m.cfg.ID {
			continue
		}
		gossiping := !m.gone(member.ID)
		for _, a := range resolve(ctx, member.Address) {
			if gossiping {
				skip[a] = true
			} else if !slices.Contains(away, a.String()) {
				away = append(away, a.String())
				targets = append(targets, a)
			}
		}
	}
	for _, seed := range m.seeds() {
		addresses := resolve(ctx, seed)
		if len(addresses) == 0 {
			m.logger.Debug("seed does not resolve", "seed", seed)
			unresolved = true
		}
		seeds = append(seeds, addresses...)
	}
	targets = append(targets, seeds...)
	slices.SortFunc(targets, netip.AddrPort.Compare)
	targets = slices.DeleteFunc(slices.Compact(targets), func(a netip.AddrPort) bool { return skip[a] })
	return targets, seeds, unresolved
}

// resolve returns all addresses that HOST:PORT stands for, none if it cannot be told now.
func resolve(ctx context.Context, address string) []netip.AddrPort {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	var all []netip.AddrPort
	for _, ip := range ips {
		if a, err := netip.ParseAddrPort(net.JoinHostPort(ip.Unmap().String(), port)); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// noticeBlockedPackets says by name whose UDP is blocked while TCP is not: such a member is
// still found, but its failures are noticed late and others may take it for dead.
func (m *Membership) noticeBlockedPackets() {
	m.mu.Lock()
	defer m.mu.Unlock()
	patience := time.Duration(5*(len(m.peers)+1)) * m.cfg.Pace
	for id, p := range m.peers {
		since := p.metAt
		if p.packetAt.After(since) {
			since = p.packetAt
		}
		blocked := p.gossiping && !p.silent && time.Since(since) > patience
		if blocked != p.blocked {
			p.blocked = blocked
			if blocked {
				m.logger.Warn("udp to a member seems blocked while tcp is not; open the port for udp too",
					"node", p.info.Name, "id", id, "address", p.info.Address)
			}
		}
	}
}
