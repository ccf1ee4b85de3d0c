package node

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/protocol7/snakes/node/events"
)

// happened is the data of an event of GET /-/events.
type happened struct {
	Time  time.Time         `json:"time"`
	Level string            `json:"level"`
	Part  string            `json:"part"`
	What  string            `json:"what"`
	Facts map[string]string `json:"facts"`
}

// events tells what happened to this node: what is kept after the event with the id that the client
// had last, if it is of this process, else all that is kept; and then what happens, unless
// follow=0.
func (a *api) events(w *response, r *http.Request) error {
	given, err := parameters(r, "follow")
	if err != nil {
		return err
	}
	follow := given["follow"]
	if follow != "" && follow != "0" && follow != "1" {
		return refuse(errBadParameter, "follow is 0, to end after what has happened, or 1, not %q.", shortened(follow))
	}
	last := a.numberOf(r.Header.Get(headerLastEvent))
	s, ctx, done := a.stream(w, r)
	defer done()
	for r.Method != http.MethodHead {
		kept, changed := a.Events.After(last)
		for _, e := range kept {
			last = e.Number
			s.event("event", a.eventID(last), happened{e.Time.UTC(), e.Level, e.Part, e.What, e.Facts})
		}
		if s.flush() != nil || follow == "0" || !a.await(ctx, s, changed) {
			break
		}
	}
	return nil // a client that is gone needs no answer
}

// await returns true when an event has come, and false if there is nobody to tell any more.
func (a *api) await(ctx context.Context, s *stream, changed <-chan struct{}) bool {
	for {
		select {
		case <-changed:
			return true
		case <-ctx.Done():
			return false
		case <-time.After(a.Heartbeat):
			s.heartbeat()
			if s.flush() != nil {
				return false
			}
		}
	}
}

// eventID names an event of this process.
func (a *api) eventID(number uint64) string {
	return strconv.FormatUint(a.Origin, 16) + "-" + strconv.FormatUint(number, 10)
}

// numberOf returns the number of the event that an id names, 0 if it is none of this process.
func (a *api) numberOf(id string) uint64 {
	origin, text, _ := strings.Cut(id, "-")
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil || origin != strconv.FormatUint(a.Origin, 16) {
		return 0
	}
	return number
}

var _ eventLog = (*events.Log)(nil)
