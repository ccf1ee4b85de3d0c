package node

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

const (
	// defaultHeartbeat is after how long without an event a stream sends a comment, so that both
	// sides and what is between them know that the other one is there.
	defaultHeartbeat = 15 * time.Second
	// defaultStall is for how long a reader of a stream may take nothing.
	defaultStall = 10 * time.Second
)

// streams ends those that are under way: all of them for good when the node stops, and each once
// when it is drained. Safe for concurrent use.
type streams struct {
	close context.CancelFunc // for good

	mu      sync.Mutex // guards the fields below
	closing context.Context
	now     context.Context
	endNow  context.CancelFunc
}

func newStreams() *streams {
	s := new(streams)
	s.closing, s.close = context.WithCancel(context.Background())
	s.now, s.endNow = context.WithCancel(s.closing)
	return s
}

// end ends those that there are; who comes later may go on.
func (s *streams) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endNow()
	s.now, s.endNow = context.WithCancel(s.closing)
}

// whenEnding has f called when streams are to end that are under way now, unless stop is called
// before.
func (s *streams) whenEnding(f func()) (stop func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return context.AfterFunc(s.now, f)
}

// stream writes server-sent events, as in the HTML standard, section 9.2. What was written goes
// out by flush.
type stream struct {
	w       *response
	control *http.ResponseController
	stall   time.Duration
	b       []byte
}

// stream begins an answer that goes on until the client leaves, or the node stops: then ctx ends.
// done must be called at the end of the answer.
func (a *api) stream(w *response, r *http.Request) (s *stream, ctx context.Context, done func()) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	w.quiet = true                   // that it goes on for long is its nature
	w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithCancel(r.Context())
	stop := func() bool { return true }
	if a.WhenClosing != nil {
		stop = a.WhenClosing(cancel)
	}
	s = &stream{w: w, control: http.NewResponseController(w), stall: a.Stall}
	return s, ctx, func() { stop(); cancel() }
}

// event adds an event. An empty id leaves that of the event before it in force.
func (s *stream) event(name, id string, data any) {
	s.field("event", name)
	s.field("id", id)
	text, err := json.Marshal(data)
	if err != nil {
		panic(err) // all that is sent is made of text and numbers
	}
	s.field("data", string(text))
	s.b = append(s.b, '\n')
}

// mark adds an id that belongs to no event.
func (s *stream) mark(id string) {
	s.field("id", id)
	s.b = append(s.b, '\n')
}

// heartbeat adds a comment.
func (s *stream) heartbeat() { s.b = append(s.b, ":\n\n"...) }

func (s *stream) field(name, value string) {
	if value != "" {
		s.b = append(append(append(append(s.b, name...), ": "...), value...), '\n')
	}
}

// flush sends what was added. An error means that the client is gone or too slow: it has taken
// nothing for too long, and gets nothing any more.
func (s *stream) flush() error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.stall)); err != nil {
		return err
	}
	_, err := s.w.Write(s.b)
	s.b = s.b[:0]
	if err == nil {
		err = s.control.Flush()
	}
	return err
}
