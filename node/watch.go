package node

import (
	"context"
	"errors"
	"net/http"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
)

// repeatMarker is the length up to which a marker is repeated with each event. Whoever reads
// events one by one then has one at each; a standard client remembers the last one anyway.
const repeatMarker = 1 << 10

// watched is what the data of an event of a watch is.
type watched struct {
	Key  string `json:"key"`
	ETag string `json:"etag"`
}

// watchStart and watchReset are the data of events that tell of no key.
type (
	watchStart struct {
		Node string `json:"node"`
	}
	watchReset struct {
		Reason string `json:"reason"`
	}
)

func (a *api) watch(w *response, r *http.Request) error {
	given, err := parameters(r, "prefix")
	if err != nil {
		return err
	}
	prefix := given["prefix"]
	if prefix != "" && replication.ValidKey(prefix) != nil {
		return refuse(errBadParameter, "prefix is up to %d ASCII letters and digits, not %q.", replication.MaxKeyBytes, shortened(prefix))
	}
	from, err := markerIn(r.Header)
	if err != nil {
		return err
	}
	watch, err := a.Replica.Watch(prefix, from)
	if err != nil {
		return err // it says by itself what failed
	}
	s, ctx, done := a.stream(w, r)
	defer done()
	if r.Method == http.MethodHead {
		return nil
	}
	t := &telling{stream: s, watch: watch, last: watch.Marker().Hash(), id: markerText(watch.Marker())}
	if from == nil {
		s.event("start", t.id, watchStart{a.Name})
	}
	if err := s.flush(); err != nil {
		return nil // the client is gone
	}
	for t.next(ctx, a) {
	}
	return nil
}

// telling is a watch on its way to a client.
type telling struct {
	*stream
	watch *replication.Watch
	// id is the marker that the client has, last the hash of the set that it stands for.
	id   string
	last uint64
}

// next tells what changed, or that nothing did, and reports whether to go on.
func (t *telling) next(ctx context.Context, a *api) bool {
	wait, cancel := context.WithTimeout(ctx, a.Heartbeat)
	batch, err := t.watch.Next(wait)
	cancel()
	before := t.id
	moved := t.move(t.watch.Marker())
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, context.DeadlineExceeded):
		t.heartbeat()
		if moved { // by keys that the client does not watch
			t.mark(t.id)
		}
	case err != nil:
		a.Log.Warn("watch ends", "request_id", t.w.id, "error", err)
		return false // the client asks again, here or elsewhere
	case batch.Reset != "":
		t.event("reset", t.id, watchReset{batch.Reset})
	}
	for i, c := range batch.Changes {
		name, id := "put", before
		if c.Deleted {
			name = "delete"
		}
		if i == len(batch.Changes)-1 {
			id = t.id // only now all of what it stands for was told
		}
		if id == before && len(id) > repeatMarker {
			id = ""
		}
		t.event(name, id, watched{c.Key, etag(c.Version)})
	}
	return t.flush() == nil
}

// move makes told the marker that the client is to have, and reports whether it is another one. One
// that is too long to come back is left out: what the one before lacks is told twice then.
func (t *telling) move(told *seen.Set) bool {
	if told.Hash() == t.last {
		return false
	}
	t.last = told.Hash()
	id := markerText(told)
	if len(id) > maxMarker {
		return false
	}
	t.id = id
	return true
}
