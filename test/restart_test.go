package test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/test/cluster"
)

// users write and read through a client that knows all nodes, each a key of its own and then what it has written.
type users struct {
	stop chan struct{}
	wg   sync.WaitGroup
	done atomic.Int64

	mu   sync.Mutex // guards errs
	errs []error
}

func usersOf(t *testing.T, number int, nodes ...*cluster.Node) *users {
	u := &users{stop: make(chan struct{})}
	for i := range number {
		var servers []string
		for k := range nodes {
			servers = append(servers, nodes[(i+k)%len(nodes)].Addr())
		}
		c, err := client.New(client.Config{Servers: servers})
		must(t, err)
		u.wg.Go(func() {
			defer c.Close()
			key := fmt.Sprintf("user%d", i)
			for round := 0; ; round++ {
				select {
				case <-u.stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				u.note(u.turn(c, key, fmt.Sprintf("round %d", round)))
			}
		})
	}
	return u
}

// turn writes a value and reads it again.
func (u *users) turn(c *client.Client, key, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := c.Put(ctx, key, client.Value{Data: []byte(value)}, client.Default); err != nil {
		return err
	}
	got, _, err := c.Get(ctx, key, client.Default)
	if err == nil && string(got.Data) != value {
		err = fmt.Errorf("get %s: got %q, want %q, which was just written", key, got.Data, value)
	}
	return err
}

func (u *users) note(err error) {
	u.done.Add(1)
	if err != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.errs = append(u.errs, err)
	}
}

// finish ends the users and fails the test if a request of theirs has failed.
func (u *users) finish(t *testing.T) {
	t.Helper()
	close(u.stop)
	u.wg.Wait()
	t.Logf("%d turns", u.done.Load())
	if u.done.Load() == 0 {
		t.Error("the users did nothing")
	}
	if len(u.errs) > 0 {
		t.Errorf("%d of %d turns failed: %v", len(u.errs), u.done.Load(), errors.Join(u.errs[:min(len(u.errs), 5)]...))
	}
}

// A rolling restart, drained or not, loses no request of clients that know all nodes.
func TestRollingRestartLosesNoRequest(t *testing.T) {
	for name, drained := range map[string]bool{"drained": true, "stopped at once": false} {
		t.Run(name, func(t *testing.T) {
			c := cluster.Start(t, 3)
			u := usersOf(t, 6, c.Nodes()...)
			for _, n := range c.Nodes() {
				if drained {
					must(t, n.Do("POST", "/-/drain", "").Expect(202))
					must(t, n.Do("GET", "/-/ready", "").Expect(503))
					c.AwaitState(10*time.Second, "draining", n)
				}
				n.Stop()
				before := u.done.Load()
				c.Await(10*time.Second, "turns while it is away", func() error { return more(u, before) })
				n.Start()
				c.AwaitMembers(30 * time.Second)
				for _, other := range c.Nodes() {
					c.Await(20*time.Second, "ready", func() error { return other.Do("GET", "/-/ready", "").Expect(200) })
				}
			}
			u.finish(t)
			c.AwaitConverged(10 * time.Second)
		})
	}
}

// more returns nil once the users have done a fair amount since before.
func more(u *users, before int64) error {
	if done := u.done.Load() - before; done < 30 {
		return fmt.Errorf("%d turns so far", done)
	}
	return nil
}
