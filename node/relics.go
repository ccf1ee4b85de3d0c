package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/replication"
)

const (
	// relicLook is how often is looked whether this node is synced, so that it can tell what
	// nobody else has.
	relicLook = 250 * time.Millisecond
	// relicPause is the time after which a relic is tried again.
	relicPause = 10 * time.Second
	// relicRecords and relicBytes limit what is written at once.
	relicRecords = 100
	relicBytes   = 1 << 20
)

// settleRelics deals, once this node is synced, with the data that was set aside and was not
// dealt with. It returns when that is done, or ctx has ended.
func (n *Node) settleRelics(ctx context.Context) {
	relics, err := n.store.Asides()
	if err != nil {
		n.logger.Error("data that was set aside cannot be read", "error", err)
		return
	}
	for _, relic := range inEffect(relics) {
		if relic.Settled {
			continue
		}
		for !n.syncer.Synced() {
			if !sleep(ctx, relicLook) {
				return
			}
		}
		for err := n.settleRelic(relic); err != nil; err = n.settleRelic(relic) {
			n.logger.Warn("data that was set aside is not dealt with yet", "path", relic.Path, "error", err, "again_in", relicPause)
			if !sleep(ctx, relicPause) {
				return
			}
		}
	}
}

// inEffect returns relics, the oldest first, with the reasons that hold now: of a node that was
// removed since, nothing is written again. Nobody has waited for it before dropping tombstones.
func inEffect(relics []disk.Relic) []disk.Relic {
	relics = slices.Clone(relics)
	removed := false
	for i := range slices.Backward(relics) {
		if removed = removed || relics[i].Reason == relicRemoved; removed {
			relics[i].Reason = relicRemoved
		}
	}
	return relics
}

// settleRelic looks for records that nobody has, to judge by what this node has seen: all that
// the other members have. It writes them again if they are those of a node that only lost its
// memory. Those of a removed node may be older than deletes that nobody remembers any more.
func (n *Node) settleRelic(relic disk.Relic) error {
	var alone, damaged int
	var batch []replication.Record
	bytes := 0
	seen := n.store.Seen()
	for record, err := range n.store.Records(relic.Path) {
		switch {
		case errors.Is(err, replication.ErrDamaged):
			damaged++
			continue
		case err != nil:
			return err
		case seen.Has(record.Version.Dot):
			continue
		}
		alone++
		if relic.Reason != relicGoneBack {
			continue
		}
		batch, bytes = append(batch, record), bytes+len(record.Value)
		if len(batch) >= relicRecords || bytes >= relicBytes {
			if err := n.writeAgain(batch); err != nil {
				return err
			}
			batch, bytes = nil, 0
		}
	}
	if err := n.writeAgain(batch); err != nil {
		return err
	}
	if err := n.store.Settle(relic.Path); err != nil {
		return err
	}
	facts := []any{"path", relic.Path, "records", alone, "damaged", damaged}
	switch {
	case alone == 0 && damaged == 0:
		n.logger.Info("the cluster has everything that was set aside", facts...)
	case alone == 0:
		n.logger.Warn("the cluster has everything that was set aside, but for what cannot be read", facts...)
	case relic.Reason == relicGoneBack:
		n.logger.Warn("records that only the data set aside had were written again", facts...)
	default:
		n.logger.Warn("records that only the data set aside has stay there; nobody has them", facts...)
	}
	return nil
}

func (n *Node) writeAgain(batch []replication.Record) error {
	for i, outcome := range n.coordinator.Replica().Write(batch) {
		if outcome.Err != nil {
			return fmt.Errorf("write %s again: %w", batch[i].Key, outcome.Err)
		}
	}
	return nil
}

// sleep returns after d, or before that and with false if ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
