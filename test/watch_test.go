package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/test/cluster"
)

// watched is a client that keeps what it was told last of each key.
type watched struct {
	mu     sync.Mutex // guards the fields below
	state  map[string]string
	nodes  []string
	events int
	resets []string
	err    error
}

func (w *watched) follow(ctx context.Context, c *client.Client, marker string) {
	for e, err := range c.Watch(ctx, client.Watch{Prefix: "w", Marker: marker, Patience: time.Minute}) {
		w.mu.Lock()
		switch {
		case err != nil:
			if ctx.Err() == nil {
				w.err = err
			}
		case e.Type == client.Started:
			w.nodes = append(w.nodes, e.Node)
		case e.Type == client.Reset:
			w.resets = append(w.resets, e.Reason)
			clear(w.state)
		case e.Type == client.Deleted:
			delete(w.state, e.Key)
		default:
			w.state[e.Key] = e.ETag
		}
		w.events++
		w.mu.Unlock()
	}
}

// lacks returns nil if what was told is exactly what the cluster has.
func (w *watched) lacks(c *client.Client) error {
	want := make(map[string]string)
	for page, err := range c.Pages(context.Background(), client.Span{Prefix: "w", Limit: client.MaxPage}, client.Quorum) {
		if err != nil {
			return err
		}
		for _, key := range page.Keys {
			want[key.Key] = key.ETag
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	for key, etag := range want {
		if w.state[key] != etag {
			return fmt.Errorf("%s: was told %q, want %q", key, w.state[key], etag)
		}
	}
	for key, etag := range w.state {
		if want[key] == "" {
			return fmt.Errorf("%s: was told %q, and not that it is deleted", key, etag)
		}
	}
	return nil
}

// 10,000 random writes and deletes go through all nodes while those that are watched are killed and
// come back, one after the other.
func TestWatchSeesEveryFinalStateThoughItsNodeIsKilled(t *testing.T) {
	t.Parallel()
	const writers, writes, keys = 8, 10_000, 2_000
	c := cluster.Start(t, 3)
	var urls []string
	for _, n := range c.Nodes() {
		urls = append(urls, "http://"+n.Addr())
	}
	dial := func(urls ...string) *client.Client {
		api, err := client.New(client.Config{Servers: urls})
		must(t, err)
		t.Cleanup(api.Close)
		return api
	}

	ctx, stop := context.WithCancel(t.Context())
	watches := []*watched{{state: make(map[string]string)}, {state: make(map[string]string)}, {state: make(map[string]string)}}
	var running sync.WaitGroup
	for i, w := range watches { // each begins at another node
		api := dial(append(append([]string{}, urls[i:]...), urls[:i]...)...)
		running.Go(func() { w.follow(ctx, api, client.Beginning) })
	}
	defer running.Wait()
	defer stop()

	var writing sync.WaitGroup
	for i := range writers {
		api := dial(append(append([]string{}, urls[i%3:]...), urls[:i%3]...)...)
		writing.Go(func() {
			for range writes / writers {
				key := fmt.Sprint("w", rand.IntN(keys))
				// A write that fails while a node is killed may have happened or not: both are fine.
				if rand.IntN(3) == 0 {
					_, _ = api.Delete(ctx, key, client.Default)
				} else {
					_, _ = api.Put(ctx, key, client.Value{Data: []byte(key)}, client.Default)
				}
			}
		})
	}
	for i := range 2 {
		time.Sleep(500 * time.Millisecond) // some way into the writes
		c.Node(i).Kill()
		time.Sleep(500 * time.Millisecond)
		c.Node(i).Start()
		c.AwaitMembers(30 * time.Second)
	}
	writing.Wait()
	c.Node(0).Kill() // for good: its watch has to be elsewhere
	left := dial(urls[1:]...)
	for i, w := range watches {
		c.Await(40*time.Second, fmt.Sprintf("watch %d was told everything", i), func() error { return w.lacks(left) })
		w.mu.Lock()
		t.Logf("watch %d: %d events, resets %q", i, w.events, w.resets)
		w.mu.Unlock()
	}
}
