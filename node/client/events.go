package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Happening is something that happened to a node, as its log has it.
type Happening struct {
	// ID names it among those of one process.
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// Level is info, warn or error; Part is what it happened to, such as membership; What says it in constant words and
	// Facts what they leave open.
	Level string            `json:"level"`
	Part  string            `json:"part"`
	What  string            `json:"what"`
	Facts map[string]string `json:"facts"`
}

// Events yields the last of what happened to the node that answers, ascending: 500 events at most, since its start. With
// follow it goes on with what happens, until ctx ends: then the error is that of ctx, or until the node gives no answer for
// DefaultPatience. After a restart of the node all that it has since is told.
//
// The error is yielded last. Of several servers any may be the one that answers, and it stays with that.
func (c *Client) Events(ctx context.Context, follow bool) iter.Seq2[Happening, error] {
	return func(yield func(Happening, error) bool) {
		f := &following{client: c, yield: yield, follow: follow, heard: time.Now()}
		if err := f.run(ctx); err != nil && !f.stopped {
			yield(Happening{}, fmt.Errorf("events: %w", err))
		}
	}
}

// following is an Events on its way.
type following struct {
	client *Client
	yield  func(Happening, error) bool
	follow bool
	// last is the id of the last event, empty before the first.
	last string
	// stopped: the loop does not want more.
	stopped bool
	// heard is when the node sent something last.
	heard time.Time
}

func (f *following) run(ctx context.Context) error {
	var server *url.URL // that answered
	for {
		var causes []error
		for i := range f.client.servers {
			one := f.client.servers[(int(f.client.first.Load())+i)%len(f.client.servers)]
			if server != nil {
				one = server
			}
			before := f.heard
			err := f.listen(ctx, one)
			switch {
			case f.stopped, err == nil:
				return nil
			case ctx.Err() != nil:
				return ctx.Err()
			case isFinal(err):
				return err
			case f.heard != before:
				server = one
			}
			causes = append(causes, fmt.Errorf("%s: %w", one.Redacted(), err))
			if server != nil {
				break
			}
		}
		if server == nil || time.Since(f.heard) > DefaultPatience {
			return fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(causes...))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchPause):
		}
	}
}

// listen yields what one server tells until it ends, and returns why it did, or nil if that is all there is.
func (f *following) listen(ctx context.Context, server *url.URL) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(watchOpen, func() { cancel(errSilence) })
	defer silence.Stop()
	q := request{method: http.MethodGet, path: "/-/events", header: make(http.Header)}
	if !f.follow {
		q.path += "?follow=0"
	}
	if f.last != "" {
		q.header.Set("Last-Event-ID", f.last)
	}
	response, err := f.client.openStream(ctx, server, q)
	if err != nil {
		return orCause(ctx, err)
	}
	defer response.Body.Close()
	lines := bufio.NewReaderSize(response.Body, maxEventLine)
	for {
		f.heard = time.Now()
		silence.Reset(watchSilence)
		name, data, id, err := readBlock(lines)
		switch {
		case errors.Is(err, errEnded) && !f.follow:
			return nil
		case err != nil:
			return orCause(ctx, err)
		case name == "":
			continue // a heartbeat
		}
		h := Happening{ID: id}
		if err := json.Unmarshal([]byte(data), &h); err != nil {
			return fmt.Errorf("%w: event %s: %w", ErrNotSnakes, words(id), err)
		}
		h.ID, f.last = id, id
		if f.stopped = !f.yield(h, nil); f.stopped {
			return nil
		}
	}
}
