package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/protocol7/snakes/replication/version"
)

// Put stores value under key and waits until as many replicas as level says have it on stable
// storage. The others are written in the background, for at most Config.StragglerTimeout.
//
// key must be valid, see ValidKey; value may be empty, and must never be changed again: calls
// that go on after the return still read it. contentType is kept as it is.
//
// The Receipt is valid with every answer that reached a decision. Errors: one that wraps
// ErrBadKey, ErrNotReady or ErrClosed, when nothing was done; else a *QuorumError, which tells
// whether anything may have been written. When ctx ends early the write goes on without anybody
// waiting for it, and the error wraps ctx's. Safe for concurrent use.
func (c *Coordinator) Put(ctx context.Context, key string, value []byte, contentType string, level Level) (Receipt, error) {
	receipt, err := c.write(ctx, opPut, Record{Key: key, Value: value, ContentType: contentType}, level)
	c.ended.puts.note(err)
	return receipt, err
}

// Delete stores a tombstone under key, whether or not there is a value. All else as for Put.
func (c *Coordinator) Delete(ctx context.Context, key string, level Level) (Receipt, error) {
	receipt, err := c.write(ctx, opDelete, Record{Key: key, Deleted: true}, level)
	c.ended.deletes.note(err)
	return receipt, err
}

func (c *Coordinator) write(ctx context.Context, op string, record Record, level Level) (Receipt, error) {
	if err := ValidKey(record.Key); err != nil {
		return Receipt{}, fmt.Errorf("%s: %w", op, err)
	}
	if err := c.enter(); err != nil {
		return Receipt{}, fmt.Errorf("%s: %w", op, err)
	}
	defer c.leave()

	w := &write{request: c.newRequest(op, level), record: record}
	if err := w.admitWrite(); err != nil {
		return w.receipt(version.Version{}), err
	}
	if err := ctx.Err(); err != nil {
		return w.receipt(version.Version{}), w.missed(WrittenNo, err)
	}
	w.start()
	defer func() { w.stop() }()
	err := w.round(ctx)
	if errors.Is(err, errSuperseded) {
		w.again()
		err = w.round(ctx)
	}
	if err != nil {
		return w.receipt(version.Version{}), err
	}
	return w.receipt(w.record.Version), nil
}

// admitWrite returns nil if a write that was sent nowhere yet may start.
func (r *request) admitWrite() error {
	if err := r.quorum().ready(); err != nil {
		return fmt.Errorf("%s: %w", r.op, err)
	}
	// A node whose disk failed must not hand out dots: it could not remember them.
	if err := r.c.cfg.Store.Writable(); errors.Is(err, ErrReadOnly) {
		r.part(r.self).fail(err)
		return r.missed(WrittenNo, nil)
	}
	if r.chance() == hopeless {
		return r.missed(WrittenNo, nil)
	}
	return nil
}

// write is a Put or Delete on its way: one round, or two.
type write struct {
	*request
	record Record
	second bool
	// highest is the highest timestamp that a replica answered with instead of taking the
	// record.
	highest version.Timestamp
}

// errSuperseded ends a first round in which newer versions stand in the way of the level.
var errSuperseded = errors.New("superseded")

// again prepares the second round, above all that the first one met. The deadline stays.
func (w *write) again() {
	deadline := w.deadline
	w.stop()
	w.request = w.c.newRequest(w.op, w.level)
	w.deadline, w.second = deadline, true
}

// round stamps the record, sends it to all live members at once and waits for the level. The
// error is errSuperseded or a *QuorumError.
func (w *write) round(ctx context.Context) error {
	w.record.Version = w.c.stamp(w.record.Key, w.highest)
	if err := w.record.Version.Timestamp.Valid(); err != nil {
		// Only a record that no node takes any more can be in the way of it.
		return w.missed(w.written(), fmt.Errorf("no version is above the one there is: %w", err))
	}
	w.scatter(ctx)
	for {
		now := w.weigh()
		switch {
		case now == met:
			return nil
		case now < hopeful && w.worthAgain():
			return errSuperseded
		case now == hopeless:
			return w.missed(w.written(), nil)
		}
		got, ok, err := w.wait(ctx)
		switch {
		case errors.Is(err, errDeadline):
			return w.missed(w.written(), nil)
		case err != nil:
			return w.missed(WrittenUnknown, err)
		case ok:
			w.settle(got)
		}
	}
}

// stamp returns the version of a write to key: above all that this node knows, and above the
// given timestamp. The clock stays where it is if it takes more than the clock to get there,
// so that one record from the far future does not drag everything after it.
func (c *Coordinator) stamp(key string, above version.Timestamp) version.Version {
	// An own record that cannot be read says nothing about its version; if it is in the way,
	// a replica answers superseded.
	if own, err := c.replica.store.Lookup(key); err == nil && own.Version.Timestamp.Compare(above) > 0 {
		above = own.Version.Timestamp
	}
	stamp := c.cfg.Clock.Next()
	if stamp.Compare(above) <= 0 {
		stamp = above.Next()
	}
	return version.Version{Timestamp: stamp, Dot: c.replica.nextDot()}
}

// scatter sends the record to all live members, learners included, and to the own store.
func (w *write) scatter(ctx context.Context) {
	c, self, records := w.c, w.self, []Record{w.record}
	send := func(id string) reply {
		held, err := c.give(ctx, self, id, records)
		return reply{id: id, held: held, err: err}
	}
	view := c.cfg.Members.View()
	for i := range w.parts {
		p := &w.parts[i]
		if m, known := view.Member(p.id); known && m.Live {
			w.ask(p, send)
		}
	}
}

// settle enters a reply.
func (w *write) settle(got reply) {
	p := w.part(got.id)
	switch {
	case got.err != nil:
		p.fail(got.err)
	case got.held.Version == w.record.Version || w.second:
		// In the second round something newer is a write concurrent with this one, whichever
		// of the two is said to have come first.
		p.verdict, p.err = acked, nil
	default:
		p.verdict, p.err = superseded, nil
		if t := got.held.Version.Timestamp; t.Compare(w.highest) > 0 {
			w.highest = t
		}
	}
}

// written returns what the write may have left behind: nothing if it found no room on any disk,
// which is the one failure that is sure to have changed nothing.
func (w *write) written() Written {
	for _, p := range w.parts {
		if w.second || p.verdict != unasked && !errors.Is(p.err, ErrDiskFull) {
			return WrittenUnknown
		}
	}
	return WrittenNo
}

// worthAgain reports whether the level can be met if the replicas that hold something newer
// take the record under a newer version.
func (w *write) worthAgain() bool {
	if w.second {
		return false
	}
	found := false
	now := w.quorum().weigh(func(id string) verdict {
		v := w.verdict(id)
		if v == superseded {
			found, v = true, open
		}
		return v
	})
	return found && now >= hopeful
}
