package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/protocol7/snakes/node/client"
)

// telling returns a server that sends the given text to each watch, and then ends the stream.
func telling(t *testing.T, asked *[]string, texts ...string) string {
	t.Helper()
	var n atomic.Int32
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked != nil {
			*asked = append(*asked, r.RequestURI+" "+r.Header.Get("Last-Event-ID"))
		}
		i := int(n.Add(1)) - 1
		if i >= len(texts) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte(texts[i]))
	})
}

func TestWatchGoesOnAtTheNextServerWithTheLastMarker(t *testing.T) {
	var one, two []string
	a := telling(t, &one,
		"event: start\nid: m1\ndata: {\"node\":\"a\"}\n\n:\n\nevent: put\nid: m2\ndata: {\"key\":\"k1\",\"etag\":\"\\\"x\\\"\"}\n\n"+
			":\n\nid: m3\n\nevent: put\nid: m4\ndata: {\"key\":\"cut off")
	b := telling(t, &two, "event: reset\nid: 0\ndata: {\"reason\":\"why\"}\n\nevent: delete\nid: m5\ndata: {\"key\":\"k1\",\"etag\":\"\\\"y\\\"\"}\n\n")
	c := newClient(t, refusing(t), a, b)
	var got []string
	for e, err := range c.Watch(t.Context(), client.Watch{Prefix: "k"}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Type, " ", e.Key, e.ETag, e.Reason, e.Node, " ", e.Marker))
		if e.Type == client.Deleted {
			break
		}
	}
	if want := []string{"start a m1", `put k1"x" m2`, "reset why 0", `delete k1"y" m5`}; !slices.Equal(got, want) {
		t.Errorf("events: got %q, want %q", got, want)
	}
	if want := []string{"/-/watch?prefix=k "}; !slices.Equal(one, want) {
		t.Errorf("first server: asked %q, want %q", one, want)
	}
	if want := []string{"/-/watch?prefix=k m3"}; !slices.Equal(two, want) {
		t.Errorf("second server: asked %q, want %q", two, want)
	}
}

func TestWatchEndsWhenNobodyAnswersForLong(t *testing.T) {
	c := newClient(t, refusing(t), telling(t, nil, "event: start\nid: m1\ndata: {}\n\n"))
	events := 0
	var last error
	for _, err := range c.Watch(t.Context(), client.Watch{Patience: 300 * time.Millisecond}) {
		events++
		last = err
	}
	if events != 2 || !errors.Is(last, client.ErrUnreachable) {
		t.Errorf("got %d events and %v, want one and ErrUnreachable", events, last)
	}
}

func TestWatchEndsAtWhatIsNoUse(t *testing.T) {
	refused := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"type":"urn:snakes:error:bad-header","title":"Bad header","status":400}`))
	})
	page := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	long := telling(t, nil, "data: "+string(make([]byte, 1<<20)))
	for url, want := range map[string]error{refused: client.ErrBadRequest, page: client.ErrNotSnakes, long: client.ErrNotSnakes} {
		var last error
		for _, err := range newClient(t, url).Watch(t.Context(), client.Watch{}) {
			last = err
		}
		if !errors.Is(last, want) {
			t.Errorf("got %v, want %v", last, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	hangs := serve(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	var last error
	for _, err := range newClient(t, hangs).Watch(ctx, client.Watch{}) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("canceled: got %v", last)
	}
}
