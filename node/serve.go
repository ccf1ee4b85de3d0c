package node

import (
	"context"
	"errors"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
)

// Why data was set aside, see disk.Aside.
const (
	// relicGoneBack: it is an older copy of what this node had.
	relicGoneBack = "gone-back"
	// relicRemoved: the cluster does not count on the node that it belongs to any more.
	relicRemoved = "removed"
)

// Serve opens and runs a node until ctx ends, see Open and Run. A node whose data does not count
// any more sets it aside, within the data directory, and begins anew on the same port:
//
//   - If the data is an older copy of what this node once told others that it has, it goes on as
//     the member that it is and fetches everything. What nobody has but the old copy it then
//     writes again.
//   - If this node was removed from its cluster, since it left, was forgotten or was replaced, it
//     joins as a new node by the addresses of the members that it knew, besides Config.Join. What
//     nobody has but the old data stays where it is; the log counts it.
//
// All else is as for Open and Run.
func Serve(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	var read *credentials
	for {
		n := newNode(cfg)
		n.serves = true
		if read != nil {
			n.credentials = read
		}
		read = n.credentials
		err := n.open()
		if err == nil {
			n.banner()
			err = n.Run(ctx)
		} else {
			n.end(err)
			err = errors.Join(err, n.close())
		}
		if !n.anew.Load() {
			return err
		}
		if ctx.Err() != nil {
			return nil // it begins anew with the next process
		}
		cfg.Port = n.port
	}
}

// end enters what ends this node, so that close knows what to do with the data.
func (n *Node) end(cause error) {
	if !n.serves || n.leaving.Load() {
		return
	}
	switch {
	case errors.Is(cause, replication.ErrGoneBack):
		n.logger.Error("the data of this node is an old copy; it is set aside, and everything is fetched from the other members", "error", cause)
		if err := n.memory.GiveUp(); err != nil {
			n.logger.Error("the old copy cannot be given up", "error", err)
			return
		}
		n.aside = &disk.Aside{Reason: relicGoneBack, Keep: []string{"roster", "members", "cluster", replication.NextLifeState}}
	case errors.Is(cause, membership.ErrRemoved):
		n.logger.Warn("this node was removed from its cluster: it left, was forgotten or was replaced; its data is set aside, and it joins as a new node")
		n.aside = &disk.Aside{Reason: relicRemoved, Keep: []string{"members", "cluster"}, NewID: true}
	}
}

// closeStore gives back the data directory, and first sets aside what does not count any more.
func (n *Node) closeStore() error {
	if n.aside == nil {
		return n.store.Close()
	}
	path, err := n.store.SetAside(*n.aside)
	if err != nil {
		return err
	}
	n.logger.Warn("data set aside", "directory", n.cfg.Data, "path", path, "reason", n.aside.Reason)
	n.anew.Store(true)
	return nil
}
