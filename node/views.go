package node

import (
	"context"
	"sync"
	"time"

	"github.com/protocol7/snakes/node/client"
)

const (
	// viewTime is how long a member may take to say what it sees.
	viewTime = time.Second
	// viewWait is how long somebody waits for the members who looks at the page: it is there at
	// once, and what comes late is shown the next time.
	viewWait = 25 * time.Millisecond
	// viewRest is for how long a member is not asked again.
	viewRest = 500 * time.Millisecond
	// viewAge is for how long what a member said is shown while it says nothing new.
	viewAge = 10 * time.Second
)

// views asks other members what they see, when somebody wants to know, each of them once at a
// time. Its goroutines are those that ask; Close ends them. Safe for concurrent use.
type views struct {
	ask  func(ctx context.Context, id string) (client.Members, error)
	life context.Context // of those that ask, who outlive whoever wanted to know
	end  context.CancelFunc

	mu      sync.Mutex // guards the fields below, and running against Go after Wait
	closed  bool
	known   map[string]*told
	running sync.WaitGroup
}

// told is what a member said last.
type told struct {
	view client.Members
	at   time.Time // when it did; zero: never
	err  error     // why it did not the last time
	// ended is when it was last asked and said something or not; asking is closed at the end of a
	// question under way, nil if there is none.
	ended  time.Time
	asking chan struct{}
}

func newViews(ask func(ctx context.Context, id string) (client.Members, error)) *views {
	life, end := context.WithCancel(context.Background())
	return &views{ask: ask, life: life, end: end, known: make(map[string]*told)}
}

// Close ends questions under way and waits for them. No new ones are asked after it.
func (v *views) Close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.end()
	v.running.Wait()
}

// of asks the members with these ids, and forgets all others. It returns what is known of each
// when all have answered that did so the last time, or viewWait has passed, or ctx ends.
func (v *views) of(ctx context.Context, ids []string) map[string]told {
	late := time.NewTimer(viewWait)
	defer late.Stop()
	for _, asking := range v.begin(ids) {
		select {
		case <-asking:
			continue
		case <-late.C:
		case <-ctx.Done():
		}
		break
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	known := make(map[string]told, len(ids))
	for _, id := range ids {
		if t := v.known[id]; t != nil {
			known[id] = *t
		}
	}
	return known
}

// begin asks those who are not asked and did not answer just now, and returns what is closed when
// questions under way end, but for those to members that gave no answer the last time.
func (v *views) begin(ids []string) (under []<-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	kept := make(map[string]*told, len(ids))
	for _, id := range ids {
		t := v.known[id]
		if t == nil {
			t = new(told)
		}
		kept[id] = t
		if t.asking == nil && !v.closed && time.Since(t.ended) >= viewRest {
			t.asking = make(chan struct{})
			v.running.Go(func() { v.one(id, t) })
		}
		if t.asking != nil && t.err == nil { // who was silent before holds up nobody
			under = append(under, t.asking)
		}
	}
	v.known = kept
	return under
}

// one asks one member, of whom t is what is known.
func (v *views) one(id string, t *told) {
	ctx, cancel := context.WithTimeout(v.life, viewTime)
	defer cancel()
	view, err := v.ask(ctx, id)
	v.mu.Lock()
	defer v.mu.Unlock()
	t.err, t.ended = err, time.Now()
	if err == nil {
		t.view, t.at = view, t.ended
	}
	close(t.asking)
	t.asking = nil
}
