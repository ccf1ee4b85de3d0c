package disk

import (
	"slices"
	"sync"
)

// group lets all who wait for a slow operation at the same time share one run of it. There is
// no goroutine: whoever gets to run it, runs it for all that came before.
type group struct {
	running sync.Mutex // held by the one who runs the operation

	mu   sync.Mutex // guards next
	next *run       // the run that has not begun; nil: nobody waits for one
}

// run is one run of the operation. Its fields are guarded by group.running.
type run struct {
	done bool
	err  error
}

// do returns the error of a run of op that began after do was called. All callers give the
// same op. Runs do not overlap.
func (g *group) do(op func() error) error {
	g.mu.Lock()
	if g.next == nil {
		g.next = new(run)
	}
	r := g.next
	g.mu.Unlock()

	g.running.Lock()
	defer g.running.Unlock()
	if !r.done {
		g.mu.Lock()
		g.next = nil // who comes from now on needs another run
		g.mu.Unlock()
		r.err = op()
		r.done = true
	}
	return r.err
}

// alone runs op while no run is under way, and none begins. Nobody shares it.
func (g *group) alone(op func() error) error {
	g.running.Lock()
	defer g.running.Unlock()
	return op()
}

// keyLocks lets one writer at a time work on a key. Writers of different keys do not meet.
// The zero keyLocks is ready to use.
type keyLocks struct {
	mu   sync.Mutex // guards held and the users in it
	held map[string]*keyLock
}

type keyLock struct {
	sync.Mutex
	users int // holders and waiters; at 0 the lock is forgotten
}

// lock takes the locks of keys, which are ascending and distinct so that two callers cannot
// wait for each other.
func (l *keyLocks) lock(keys ...string) {
	for _, key := range keys {
		l.mu.Lock()
		k := l.held[key]
		if k == nil {
			if l.held == nil {
				l.held = make(map[string]*keyLock)
			}
			k = new(keyLock)
			l.held[key] = k
		}
		k.users++
		l.mu.Unlock()
		k.Lock()
	}
}

func (l *keyLocks) unlock(keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		k := l.held[key]
		k.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, key)
		}
	}
}

// each calls do for every item, at most limit at a time, and returns when all are done.
func each[T any](items []T, limit int, do func(T)) {
	if len(items) == 1 {
		do(items[0])
		return
	}
	var workers sync.WaitGroup
	size := max(1, (len(items)+limit-1)/limit)
	for share := range slices.Chunk(items, size) {
		workers.Go(func() {
			for _, item := range share {
				do(item)
			}
		})
	}
	workers.Wait()
}
