package node

import (
	"context"

	"github.com/protocol7/snakes/replication"
)

// fetchWidth is how many records are fetched from one node at a time. They go one by one: a read
// fetches only what it found to be newer, and values are what such an answer consists of.
const fetchWidth = 64

// link is what leads to one node.
type link struct {
	writes  lane[[]replication.Record, []replication.Outcome]
	lookups lane[string, replication.Outcome]
	fetches lane[string, replication.Record]

	heading heading // guarded by peers.mu
}

func (p *peers) newLink(id string) *link {
	begin := func() (context.Context, context.CancelFunc) { return context.WithTimeout(p.life, flightTime) }
	one := batching()
	one.calls, one.width = 1, fetchWidth
	return &link{
		writes: lane[[]replication.Record, []replication.Outcome]{
			carry: func(ctx context.Context, batch [][]replication.Record) ([][]replication.Outcome, error) {
				return p.carryWrites(ctx, id, batch)
			},
			size: recordsRoom, limits: batching(), begin: begin, running: &p.running,
		},
		lookups: lane[string, replication.Outcome]{
			carry: func(ctx context.Context, keys []string) ([]replication.Outcome, error) {
				return p.carryLookups(ctx, id, keys)
			},
			size: keySize, limits: batching(), begin: begin, running: &p.running,
		},
		fetches: lane[string, replication.Record]{
			carry: func(ctx context.Context, keys []string) ([]replication.Record, error) {
				record, err := p.carryFetch(ctx, id, keys[0])
				return []replication.Record{record}, err
			},
			size: keySize, limits: one, begin: begin, running: &p.running,
		},
	}
}

// carryWrites gives all records of a batch to node id in one request.
func (p *peers) carryWrites(ctx context.Context, id string, batch [][]replication.Record) ([][]replication.Outcome, error) {
	count, room := 0, 10
	for _, records := range batch {
		count += len(records)
		room += recordsRoom(records)
	}
	outcomes, err := p.outcomes(ctx, "write", id, appendBatch(make([]byte, 0, room), count, batch), count)
	if err != nil {
		return nil, err
	}
	answers := make([][]replication.Outcome, len(batch))
	for i, records := range batch {
		n := len(records)
		answers[i], outcomes = outcomes[:n:n], outcomes[n:]
	}
	return answers, nil
}

// carryLookups looks all keys of a batch up at node id in one request.
func (p *peers) carryLookups(ctx context.Context, id string, keys []string) ([]replication.Outcome, error) {
	return p.outcomes(ctx, "lookup", id, appendKeys(make([]byte, 0, keysRoom(keys)), keys), len(keys))
}

// outcomes sends body to node id, which answers with an outcome for each of n items.
func (p *peers) outcomes(ctx context.Context, op, id string, body []byte, n int) ([]replication.Outcome, error) {
	var outcomes []replication.Outcome
	err := p.call(ctx, op, id, body, maxState, func(d *decoder) { outcomes = d.outcomes(n) })
	if err != nil {
		return nil, err
	}
	for _, o := range outcomes {
		p.Clock.Observe(o.Current.Version.Timestamp) // zero, which moves no clock, with an error
	}
	return outcomes, nil
}

// keysRoom returns enough room for keys in their binary form, with their number.
func keysRoom(keys []string) int {
	room := 10
	for _, key := range keys {
		room += keySize(key)
	}
	return room
}

func keySize(key string) int { return 2 + len(key) }

func (p *peers) carryFetch(ctx context.Context, id, key string) (replication.Record, error) {
	var record replication.Record
	err := p.call(ctx, "fetch", id, appendText(nil, key), maxPeerBody, func(d *decoder) {
		if record = d.record(); record.Key != key {
			d.fail("record of another key")
		}
	})
	if err != nil {
		return replication.Record{}, err
	}
	p.Clock.Observe(record.Version.Timestamp)
	return record, nil
}
