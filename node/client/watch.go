package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// Beginning is the marker from which a watch tells the current state first, after an event of type Reset.
	Beginning = "0"
	// DefaultPatience is for how long no server may answer a watch.
	DefaultPatience = 30 * time.Second

	// watchOpen is how long a server may take to begin a stream, watchSilence how long it may send nothing: nodes send
	// something every 15 s.
	watchOpen    = 5 * time.Second
	watchSilence = 40 * time.Second
	// watchPause is between two rounds of asking all servers.
	watchPause = 250 * time.Millisecond
	// maxEventLine is the length of the longest line of a stream; those of a node are well below it.
	maxEventLine = 256 << 10
)

// EventType says what an Event tells.
type EventType string

// The types of events of a watch.
const (
	Started EventType = "start"  // from here on changes are told; Node says by whom
	Put     EventType = "put"    // Key has the value with ETag
	Deleted EventType = "delete" // Key was deleted; ETag is the version of that
	Reset   EventType = "reset"  // what was told does not count any more, see Reason; what follows is the current state
)

// Event is what a watch tells.
type Event struct {
	Type EventType `json:"event"`
	Key  string    `json:"key,omitempty"`
	ETag string    `json:"etag,omitempty"`
	// Reason is why what was told does not count.
	Reason string `json:"reason,omitempty"`
	// Node is the name of the node that began to tell.
	Node string `json:"node,omitempty"`
	// Marker is where to go on after this event, with any server.
	Marker string `json:"marker"`
}

// Watch says what to be told.
type Watch struct {
	// Prefix is what the keys begin with; empty means all keys.
	Prefix string
	// Marker is that of the last event of an earlier watch, or Beginning; empty means from now on.
	Marker string
	// Patience is for how long no server may answer before the watch ends; 0 means DefaultPatience, below 0 for ever.
	Patience time.Duration
}

// Watch yields what changes, until ctx ends or the loop does, or an error, which it yields last. When a server is lost it
// goes on at the next one where it was.
//
// Every key's last state is told at least once, deletes included; states in between may be left out, and states may be
// told again. What was told last of a key is its current state, unless a Reset takes it back.
//
// Errors: ErrUnreachable or ErrNotReady if no server did what was asked for Patience; ErrBadRequest and ErrNotSnakes as
// for other calls; the error of ctx.
func (c *Client) Watch(ctx context.Context, what Watch) iter.Seq2[Event, error] {
	if what.Patience == 0 {
		what.Patience = DefaultPatience
	}
	return func(yield func(Event, error) bool) {
		w := &watching{client: c, what: what, yield: yield, heard: time.Now()}
		if err := w.run(ctx); err != nil && !w.stopped {
			yield(Event{Marker: w.what.Marker}, fmt.Errorf("watch: %w", err))
		}
	}
}

// watching is a watch on its way from server to server.
type watching struct {
	client *Client
	what   Watch // with the marker to go on from
	yield  func(Event, error) bool
	// stopped: the loop does not want more.
	stopped bool
	// heard is when a server sent something last.
	heard time.Time
}

func (w *watching) run(ctx context.Context) error {
	first := int(w.client.first.Load())
	for {
		var causes []error
		for i := range w.client.servers {
			k := (first + i) % len(w.client.servers)
			server := w.client.servers[k]
			before := w.heard
			err := w.follow(ctx, server)
			if w.stopped || ctx.Err() != nil {
				return ctx.Err()
			}
			if isFinal(err) {
				return err
			}
			causes = append(causes, fmt.Errorf("%s: %w", server.Redacted(), err))
			if w.heard != before {
				causes = nil // it did answer
				w.client.first.Store(int32(k))
			}
		}
		if w.what.Patience > 0 && time.Since(w.heard) > w.what.Patience {
			return fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(causes...))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchPause):
		}
		first = int(w.client.first.Load())
	}
}

// isFinal reports whether another server, or the same one later, would answer no better.
func isFinal(err error) bool {
	if answer, ok := errors.AsType[*Error](err); ok {
		return answer.Status < http.StatusInternalServerError
	}
	return errors.Is(err, ErrNotSnakes)
}

// follow yields what one server tells until it ends, and returns why it did.
func (w *watching) follow(ctx context.Context, server *url.URL) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(watchOpen, func() { cancel(errSilence) })
	defer silence.Stop()
	q := request{method: http.MethodGet, path: "/-/watch", header: make(http.Header)}
	if w.what.Prefix != "" {
		q.path += "?" + url.Values{"prefix": {w.what.Prefix}}.Encode()
	}
	if w.what.Marker != "" {
		q.header.Set("Last-Event-ID", w.what.Marker)
	}
	response, err := w.client.openStream(ctx, server, q)
	if err != nil {
		return orCause(ctx, err)
	}
	defer response.Body.Close()
	lines := bufio.NewReaderSize(response.Body, maxEventLine)
	for {
		w.heard = time.Now()
		silence.Reset(watchSilence)
		name, data, marker, err := readBlock(lines)
		if err != nil {
			return orCause(ctx, err)
		}
		if marker != "" {
			w.what.Marker = marker // all of what it stands for is here
		}
		if name == "" {
			continue // a heartbeat, with a marker or without
		}
		e := Event{}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("%w: event %s: %w", ErrNotSnakes, words(name), err)
		}
		e.Type, e.Marker = EventType(name), w.what.Marker
		if w.stopped = !w.yield(e, nil); w.stopped {
			return nil
		}
	}
}

// openStream asks one server for a stream of events. The caller closes its body.
func (c *Client) openStream(ctx context.Context, server *url.URL, q request) (*http.Response, error) {
	response, err := c.send(ctx, server, q)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_, err := c.read(response, http.StatusOK)
		return nil, err
	}
	if response.Header.Get("Snakes-Node") == "" || response.Header.Get("Content-Type") != "text/event-stream" {
		_ = response.Body.Close()
		return nil, fmt.Errorf("%w: %s sends no events", ErrNotSnakes, server.Redacted())
	}
	return response, nil
}

// readBlock reads lines of a stream up to an empty one: an event, or without a name a heartbeat, and its id.
func readBlock(lines *bufio.Reader) (name, data, id string, err error) {
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return "", "", "", fmt.Errorf("%w: an event has a line of more than %d bytes", ErrNotSnakes, maxEventLine)
		}
		if errors.Is(err, io.EOF) {
			return "", "", "", errEnded
		}
		if err != nil {
			return "", "", "", err
		}
		field, value, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			data = value
		case "id":
			id = value
		case "":
			if len(line) > 2 || line[0] == ':' {
				continue // a comment
			}
			return name, data, id, nil
		}
	}
}

var (
	errSilence = errors.New("it was silent for too long")
	errEnded   = errors.New("it ended the stream")
)

// orCause returns why ctx ended, if that was our own doing, or else err.
func orCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilence) {
		return cause
	}
	return err
}
