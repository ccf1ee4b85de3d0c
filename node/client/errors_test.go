package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/protocol7/snakes/node/client"
)

func problem(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

func getError(t *testing.T, h http.HandlerFunc) *client.Error {
	t.Helper()
	_, _, err := newClient(t, serve(t, h)).Get(t.Context(), "foo", client.Default)
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("got error %v, want an *Error", err)
	}
	return e
}

func TestProblemsAreDecoded(t *testing.T) {
	const body = `{"type":"urn:snakes:error:quorum","title":"Quorum not met","status":503,"detail":"This needs 2.","node":"a",` +
		`"request_id":"r1","need":2,"alive":1,"known":3,"acks":1,"written":%s}` + "\n"
	for written, want := range map[string]client.Written{`false`: client.WrittenNo, `"unknown"`: client.WrittenUnknown, `null`: "", `true`: ""} {
		text := fmt.Sprintf(body, written)
		got := getError(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Snakes-Acks", "1/3; missing=b,c")
			problem(w, 503, text)
		})
		wantError := &client.Error{
			Status: 503, Code: "quorum", Title: "Quorum not met", Detail: "This needs 2.", Node: "a", RequestID: "r1",
			Need: 2, Alive: 1, Known: 3, Acks: 1, Written: want, Body: []byte(text),
		}
		if diff := cmp.Diff(wantError, got); diff != "" {
			t.Errorf("written %s (-want +got):\n%s", written, diff)
		}
		if got, want := got.Error(), "quorum not met: This needs 2. (node a, request r1)"; got != want {
			t.Errorf("got text %q, want %q", got, want)
		}
	}
}

func TestReceiptComesWithErrorAnswers(t *testing.T) {
	c := newClient(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Snakes-Acks", "1/3; missing=b,c")
		problem(w, 503, `{"type":"urn:snakes:error:quorum"}`)
	}))
	want := client.Receipt{Node: "a", Acks: 1, N: 3, Missing: []string{"b", "c"}}
	_, got, _ := c.Get(t.Context(), "foo", client.Default)
	put, _ := c.Put(t.Context(), "foo", client.Value{}, client.Default)
	if diff := cmp.Diff([]client.Receipt{want, want}, []client.Receipt{got, put}); diff != "" {
		t.Errorf("receipts (-want +got):\n%s", diff)
	}
}

func TestCodesAreSentinels(t *testing.T) {
	all := []error{
		client.ErrBadRequest, client.ErrNotFound, client.ErrPrecondition, client.ErrTooLarge, client.ErrQuorum,
		client.ErrNotReady, client.ErrDiskFull, client.ErrUnreachable, client.ErrNotSnakes,
	}
	for _, test := range []struct {
		status int
		code   string
		want   error
	}{
		{400, "bad-key", client.ErrBadRequest},
		{400, "bad-parameter", client.ErrBadRequest},
		{400, "bad-header", client.ErrBadRequest},
		{404, "not-found", client.ErrNotFound},
		{412, "precondition-failed", client.ErrPrecondition},
		{413, "too-large", client.ErrTooLarge},
		{503, "quorum", client.ErrQuorum},
		{503, "not-ready", client.ErrNotReady},
		{503, "overloaded", client.ErrNotReady},
		{507, "disk-full", client.ErrDiskFull},
		{500, "internal", nil},
		{418, "from-a-later-release", nil},
	} {
		e := getError(t, func(w http.ResponseWriter, r *http.Request) {
			problem(w, test.status, `{"type":"urn:snakes:error:`+test.code+`"}`)
		})
		if e.Status != test.status || e.Code != test.code {
			t.Errorf("%s: got status %d, code %q", test.code, e.Status, e.Code)
		}
		for _, sentinel := range all {
			if got, want := errors.Is(e, sentinel), sentinel == test.want; got != want {
				t.Errorf("%s: errors.Is(err, %q) is %v", test.code, sentinel, got)
			}
		}
	}
}

func TestNonsenseAnswersAreNoValuesAndNoSentinels(t *testing.T) {
	typed := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	const json = "application/problem+json"
	for name, h := range map[string]http.HandlerFunc{
		"another 404":             typed(404, "text/html", "<h1>not found"),
		"a gateway's 503":         typed(503, "text/plain", "no healthy upstream"),
		"problem that is no JSON": typed(404, json, "nope"),
		"problem of others":       typed(404, json, `{"type":"about:blank"}`),
		"problem without code":    typed(404, json, `{"type":"urn:snakes:error:"}`),
		"problem of other shape":  typed(404, json, `{"type":["urn:snakes:error:not-found"]}`),
		"JSON of another type":    typed(404, "application/json", `{"type":"urn:snakes:error:not-found"}`),
		"no status of the API":    typed(299, "text/plain", "bar"),
		"strange content type":    typed(404, ";;", "nope"),
		"success without content": typed(204, "", ""),
	} {
		e := getError(t, h)
		if !errors.Is(e, client.ErrNotSnakes) || errors.Is(e, client.ErrNotFound) || errors.Is(e, client.ErrNotReady) {
			t.Errorf("%s: got error %v, want ErrNotSnakes alone", name, e)
		}
		if !strings.Contains(e.Error(), fmt.Sprint(e.Status)) {
			t.Errorf("%s: got text %q, want it to tell the status", name, e)
		}
	}
}

func TestAnyWebServerIsNoNode(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPut:
			w.WriteHeader(http.StatusCreated)
		case http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			fmt.Fprint(w, "{}")
		}
	}))
	t.Cleanup(s.Close)
	c := newClient(t, s.URL)
	_, _, get := c.Get(t.Context(), "foo", client.Default)
	_, put := c.Put(t.Context(), "foo", client.Value{}, client.Default)
	_, del := c.Delete(t.Context(), "foo", client.Default)
	_, members := c.Members(t.Context())
	_, raw := c.Raw(t.Context(), "/-/members?format=text")
	for _, err := range []error{get, put, del, members, raw} {
		if !errors.Is(err, client.ErrNotSnakes) {
			t.Errorf("got error %v, want ErrNotSnakes", err)
		}
	}
}

func TestMembersThatAreNoJSONAreNonsense(t *testing.T) {
	for _, body := range []string{"", "<html>", "[]", `{"known":"three"}`, `{"known":3`} {
		c := newClient(t, serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, body) }))
		members, err := c.Members(t.Context())
		if !errors.Is(err, client.ErrNotSnakes) || members.Known != 0 {
			t.Errorf("body %q: got %+v, error %v; want ErrNotSnakes and nothing", body, members, err)
		}
	}
}

func TestErrorTextsControlNoTerminal(t *testing.T) {
	e := getError(t, func(w http.ResponseWriter, r *http.Request) {
		problem(w, 500, `{"type":"urn:snakes:error:internal","title":"\u001b[2J","detail":"a\nb\u0007\u202ec","node":"n\r"}`)
	})
	text := getError(t, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "\x1b[31mred\xff"+strings.Repeat("x", 1<<20), 500)
	})
	for _, e := range []*client.Error{e, text} {
		if text := e.Error() + e.Title + e.Detail + e.Node; strings.ContainsAny(text, "\x1b\n\r\a\u202e") || !utf8.ValidString(text) {
			t.Errorf("got text %q", e)
		}
	}
	if len(text.Detail) > 200 || len(text.Body) > 64<<10 {
		t.Errorf("got %d bytes of detail and %d of body from an answer of a MiB", len(text.Detail), len(text.Body))
	}
}
