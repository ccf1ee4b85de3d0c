package node

import (
	"context"
	"fmt"
	"time"
)

const (
	// statusPace is how often the line for the supervisor is looked at.
	statusPace = time.Second
	// feedings of the watchdog come in its time if all goes well: one may be late without harm.
	feedings = 3
	// roundPace is how often is looked whether membership has gone round.
	roundPace = 50 * time.Millisecond
)

// tell tells the supervisor one thing.
func (n *Node) tell(state string) {
	if n.cfg.Notify == nil {
		return
	}
	if err := n.cfg.Notify(state); err != nil {
		n.logger.Warn("supervisor not told", "error", err)
	}
}

// supervise tells the supervisor how this node is doing until ctx ends, and that it is ready once it has looked for the other members.
// Whether it found any is no part of that: a unit that is ordered after another node's would wait for ever otherwise.
func (n *Node) supervise(ctx context.Context) {
	told := n.line()
	n.tell("STATUS=" + told)
	select {
	case <-ctx.Done():
		return
	case <-n.membership.Sought():
	}
	told = n.line()
	n.tell("READY=1\nSTATUS=" + told)
	n.announced.Store(true)
	look := time.NewTicker(statusPace)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if line := n.line(); line != told {
			told = line
			n.tell("STATUS=" + line)
		}
	}
}

// reload reads the files again that may change while this node runs.
func (n *Node) reload() {
	announced := n.announced.Load() // before that, ready would be too early
	if announced {
		n.tell("RELOADING=1")
	}
	n.readFiles()
	if announced {
		n.tell("READY=1")
	}
}

// line says in a line whether this node is ready, and who is there.
func (n *Node) line() string {
	s := n.membership.Snapshot()
	if !s.Joined() {
		return fmt.Sprintf("Joining at %s: no member of cluster %s was reached yet", n.address, n.cfg.Cluster)
	}
	alive := 0
	for _, m := range s.Members {
		if m.Live && m.Counted {
			alive++
		}
	}
	members := fmt.Sprintf("%d of %s alive in cluster %s", alive, count(s.Known(), "member", "members"), n.cfg.Cluster)
	for _, check := range n.api.checks() {
		if check.err != nil {
			return fmt.Sprintf("Not ready at %s: %v; %s", n.address, check.err, members)
		}
	}
	return fmt.Sprintf("Ready at %s; %s", n.address, members)
}

// progress is how to see that a node gets anywhere.
type progress struct {
	synced func() uint64 // how often the journal was; it grows
	probe  func() error  // has it synced, and returns an error if the disk refuses
	rounds func() uint64 // how often membership looked after the cluster; it grows
}

// feed calls fed again and again within patience, until ctx ends, as long as there is progress: since the last time the journal has made
// something durable, and membership has looked after the cluster. A node of which one hangs is of no use to anybody and is to be started
// anew. One whose disk refuses or is full is not: no start mends that, and what it has can still be read.
func (p progress) feed(ctx context.Context, patience time.Duration, fed func()) {
	for {
		synced, round := p.synced(), p.rounds()
		if !sleep(ctx, patience/feedings) {
			return
		}
		if p.synced() == synced {
			_ = p.probe() // a refusal is an answer, and told elsewhere
		}
		for p.rounds() == round {
			if !sleep(ctx, roundPace) {
				return
			}
		}
		fed()
	}
}

// feedWatchdog feeds the supervisor's watchdog until ctx ends.
func (n *Node) feedWatchdog(ctx context.Context) {
	progress{n.synced.Load, n.store.Probe, n.membership.Rounds}.feed(ctx, n.cfg.Watchdog, func() { n.tell("WATCHDOG=1") })
}

// noteSynced enters that the journal was synced, which took so long.
func (n *Node) noteSynced(took time.Duration) {
	n.synced.Add(1)
	n.metrics.Synced(took)
}
