package client_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/protocol7/snakes/node/client"
)

func TestPagesGoOnWhereTheLastOneEnded(t *testing.T) {
	var asked []string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.RequestURI)
		w.Header().Set("Snakes-Acks", "2/3; missing=c")
		body := `{"keys":[{"key":"a1","etag":"\"x\"","size":3}],"next":"a1"}`
		if r.URL.Query().Get("after") == "a1" {
			body = `{"keys":[],"next":"a7"}`
		} else if r.URL.Query().Get("after") == "a7" {
			body = `{"keys":[{"key":"a8","etag":"\"y\"","size":0}],"next":""}`
		}
		_, _ = w.Write([]byte(body))
	})
	c := newClient(t, url)
	var got []client.Key
	for page, err := range c.Pages(t.Context(), client.Span{Prefix: "a", Limit: 7}, client.Quorum) {
		if err != nil {
			t.Fatal(err)
		}
		if page.Receipt.Acks != 2 || len(page.Receipt.Missing) != 1 {
			t.Errorf("receipt: got %+v", page.Receipt)
		}
		got = append(got, page.Keys...)
	}
	if diff := cmp.Diff([]client.Key{{"a1", `"x"`, 3}, {"a8", `"y"`, 0}}, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	want := []string{
		"/-/keys?limit=7&prefix=a&r=quorum", "/-/keys?after=a1&limit=7&prefix=a&r=quorum", "/-/keys?after=a7&limit=7&prefix=a&r=quorum",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	asked = nil
	for range c.Pages(t.Context(), client.Span{}, client.Default) {
		break
	}
	if diff := cmp.Diff([]string{"/-/keys"}, asked); diff != "" {
		t.Errorf("asked for one page (-want +got):\n%s", diff)
	}
}

// A server that never gets further must not keep the client for ever.
func TestPagesEndAtNonsense(t *testing.T) {
	for _, body := range []string{`{"keys":[],"next":"a"}`, `{"keys":[],"next":"0"}`, `no json`} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
		pages := 0
		var last error
		for _, err := range newClient(t, url).Pages(t.Context(), client.Span{After: "a"}, client.Default) {
			pages++
			last = err
		}
		if pages != 1 || !errors.Is(last, client.ErrNotSnakes) {
			t.Errorf("%s: got %d pages and %v, want ErrNotSnakes", body, pages, last)
		}
	}
}
