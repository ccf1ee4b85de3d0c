package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/protocol7/snakes/node/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server that answers like a node where h does not say otherwise, and returns its URL.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Snakes-Node", "a")
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// refusing returns the URL of a server that refuses connections.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return "http://" + l.Addr().String()
}

// hangingUp returns the URL of a server that reads requests and closes the connection on them.
func hangingUp(t *testing.T) string {
	t.Helper()
	return serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

func newClient(t *testing.T, servers ...string) *client.Client {
	t.Helper()
	return configured(t, client.Config{Servers: servers})
}

func configured(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// seen is what a server was asked.
type seen struct{ Method, Target, ContentType, Body string }

func TestRequestsAreThoseOfTheAPI(t *testing.T) {
	var got seen
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = seen{r.Method, r.RequestURI, r.Header.Get("Content-Type"), string(body)}
		if length := r.Header.Get("Content-Length"); r.Method == http.MethodPut && length != fmt.Sprint(len(body)) {
			t.Errorf("got Content-Length %q with a body of %d bytes", length, len(body))
		}
		if r.Header["Idempotency-Key"] != nil {
			t.Error("got a header Idempotency-Key, want none sent")
		}
		switch r.Method {
		case http.MethodPut:
			w.WriteHeader(http.StatusCreated)
		case http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			fmt.Fprint(w, "{}")
		}
	})
	c, ctx := newClient(t, url+"/"), t.Context()
	data := client.Value{Data: []byte("a\x00b"), ContentType: "image/png"}
	for _, test := range []struct {
		call func() error
		want seen
	}{
		{func() error { _, _, err := c.Get(ctx, "foo", client.Default); return err }, seen{Method: "GET", Target: "/foo"}},
		{func() error { _, _, err := c.Get(ctx, "foo", "2"); return err }, seen{Method: "GET", Target: "/foo?r=2"}},
		{func() error { _, _, err := c.Get(ctx, "a/b?c", client.All); return err }, seen{Method: "GET", Target: "/a%2Fb%3Fc?r=all"}},
		{func() error { _, _, err := c.Get(ctx, "foo", "1&w=2"); return err }, seen{Method: "GET", Target: "/foo?r=1%26w%3D2"}},
		{func() error { _, err := c.Put(ctx, "foo", data, client.Quorum); return err }, seen{"PUT", "/foo?w=quorum", "image/png", "a\x00b"}},
		{func() error { _, err := c.Put(ctx, "foo", client.Value{}, client.Default); return err }, seen{Method: "PUT", Target: "/foo"}},
		{func() error { _, err := c.Delete(ctx, "foo", client.One); return err }, seen{Method: "DELETE", Target: "/foo?w=one"}},
		{func() error { _, err := c.Members(ctx); return err }, seen{Method: "GET", Target: "/-/members"}},
		{func() error { _, err := c.Inspect(ctx, "foo"); return err }, seen{Method: "GET", Target: "/-/inspect/foo"}},
		{func() error { _, err := c.Raw(ctx, "/-/members?format=text"); return err }, seen{Method: "GET", Target: "/-/members?format=text"}},
	} {
		got = seen{}
		if err := test.call(); err != nil {
			t.Errorf("%s: %v", test.want.Target, err)
		}
		if got != test.want {
			t.Errorf("got request %+v, want %+v", got, test.want)
		}
	}
}

func TestServersAreURLsOrHostAndPort(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })
	address := strings.TrimPrefix(url, "http://")
	for server, want := range map[string]string{
		url:                      "/foo",
		url + "/":                "/foo",
		address:                  "/foo",
		address + "/":            "/foo",
		url + "/behind/a%2Fway/": "/behind/a%2Fway/foo",
	} {
		v, _, err := newClient(t, server).Get(t.Context(), "foo", client.Default)
		if err != nil || string(v.Data) != want {
			t.Errorf("server %q: got request for %q, %v; want %q", server, v.Data, err, want)
		}
	}
	for _, server := range []string{"", "http://", "ftp://a:1", "http://a:b", "http://a:1?x", "http://a:1?", "http://a:1#x", "http://:9000", "://"} {
		if _, err := client.New(client.Config{Servers: []string{server}}); err == nil {
			t.Errorf("server %q: got no error", server)
		}
	}
	_, err := client.New(client.Config{Servers: []string{"ftp://a", "http://ok", "http://b?x"}, MaxValue: -1})
	for _, part := range []string{"ftp://a", "http://b?x", "below zero"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v, want one that names %s", err, part)
		}
	}
}

func TestValueAndReceiptAreWhatTheAnswerSays(t *testing.T) {
	bytes := "\x00\xff any \r\n bytes"
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "image/png")
		h.Set("ETag", `"17-2"`)
		h.Set("Last-Modified", "Sun, 22 Nov 2026 12:00:00 GMT")
		h.Set("Snakes-Acks", "2/4; missing=b,c")
		fmt.Fprint(w, bytes)
	})
	v, receipt, err := newClient(t, url).Get(t.Context(), "foo", client.Default)
	if err != nil || string(v.Data) != bytes || v.ContentType != "image/png" {
		t.Errorf("got value %q of type %q, error %v", v.Data, v.ContentType, err)
	}
	want := client.Receipt{
		ETag: `"17-2"`, Modified: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Node: "a", Acks: 2, N: 4, Missing: []string{"b", "c"},
	}
	if diff := cmp.Diff(want, receipt); diff != "" {
		t.Errorf("receipt (-want +got):\n%s", diff)
	}
}

func TestReceiptOfNonsenseHeadersIsZero(t *testing.T) {
	for _, acks := range []string{"", "/", "x/y", "2", "2/", "; missing=a", "2/x; missing=a"} {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Snakes-Acks", acks)
			w.Header().Set("Last-Modified", "yesterday")
		})
		_, got, err := newClient(t, url).Get(t.Context(), "foo", client.Default)
		if diff := cmp.Diff(client.Receipt{Node: "a"}, got); err != nil || diff != "" {
			t.Errorf("Snakes-Acks %q: error %v, receipt (-want +got):\n%s", acks, err, diff)
		}
	}
}

func TestMembersAndInspectDecodeTheAPI(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/-/members" {
			fmt.Fprint(w, `{"cluster":"snakes","self":"laptop-9000","known":3,"alive":2,"quorum":2,"writable":true,"members":[`+
				`{"id":"5f0c","name":"laptop-9000","address":"127.0.0.1:9000","state":"alive","version":"1.0.0",`+
				`"since":"2026-11-22T12:00:00Z","rtt_ms":0.3,"clock_skew_ms":-1.5,"keys":17,"behind":2,"synced":true,"later":1}]}`)
			return
		}
		fmt.Fprint(w, `{"key":"foo","winner":"17-2","why":"newest","replicas":[`+
			`{"id":"5f0c","name":"a","state":"present","version":"17-2","size":3,"checksum":"00ff","error":""}]}`)
	})
	c := newClient(t, url)
	members, err := c.Members(t.Context())
	wantMembers := client.Members{
		Cluster: "snakes", Self: "laptop-9000", Known: 3, Alive: 2, Quorum: 2, Writable: true,
		Members: []client.Member{{
			ID: "5f0c", Name: "laptop-9000", Address: "127.0.0.1:9000", State: "alive", Version: "1.0.0",
			Since: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), RTT: 0.3, ClockSkew: -1.5, Keys: 17, Behind: 2, Synced: true,
		}},
	}
	if diff := cmp.Diff(wantMembers, members); err != nil || diff != "" {
		t.Errorf("error %v, members (-want +got):\n%s", err, diff)
	}
	found, err := c.Inspect(t.Context(), "foo")
	wantFound := client.Inspection{
		Key: "foo", Winner: "17-2", Why: "newest",
		Replicas: []client.Replica{{ID: "5f0c", Name: "a", State: "present", Version: "17-2", Size: 3, Checksum: "00ff"}},
	}
	if diff := cmp.Diff(wantFound, found); err != nil || diff != "" {
		t.Errorf("error %v, inspection (-want +got):\n%s", err, diff)
	}
}

func TestEveryCallGoesToTheNextServerWhenOneDoesNotAnswer(t *testing.T) {
	alive := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.Method {
		case http.MethodPut:
			if string(body) != "bar" {
				t.Errorf("the second server got the body %q, want all of it", body)
			}
			w.WriteHeader(http.StatusCreated)
		case http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			fmt.Fprint(w, "{}")
		}
	})
	for name, dead := range map[string]string{"refused": refusing(t), "hung up": hangingUp(t)} {
		for verb, call := range map[string]func(*client.Client) error{
			"get": func(c *client.Client) error { _, _, err := c.Get(t.Context(), "foo", "1"); return err },
			"put": func(c *client.Client) error {
				_, err := c.Put(t.Context(), "foo", client.Value{Data: []byte("bar")}, "1")
				return err
			},
			"delete":  func(c *client.Client) error { _, err := c.Delete(t.Context(), "foo", "1"); return err },
			"members": func(c *client.Client) error { _, err := c.Members(t.Context()); return err },
			"inspect": func(c *client.Client) error { _, err := c.Inspect(t.Context(), "foo"); return err },
		} {
			if err := call(newClient(t, dead, dead, alive)); err != nil {
				t.Errorf("%s, first server %s: %v", verb, name, err)
			}
		}
	}
}

func TestServerThatAnsweredIsAskedFirst(t *testing.T) {
	var dead atomic.Int64
	first := serve(t, func(http.ResponseWriter, *http.Request) {
		dead.Add(1)
		panic(http.ErrAbortHandler)
	})
	second := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "bar") })
	c := newClient(t, first, second)
	for range 3 {
		if _, _, err := c.Get(t.Context(), "foo", client.Default); err != nil {
			t.Fatal(err)
		}
	}
	if dead.Load() != 1 {
		t.Errorf("the server that does not answer was asked %d times, want 1", dead.Load())
	}
}

func TestLostConnectionThatWasKeptIsReplaced(t *testing.T) {
	var requests atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 2 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(map[string]int{http.MethodPut: http.StatusCreated, http.MethodDelete: http.StatusNoContent}[r.Method])
	})
	for verb, call := range map[string]func(*client.Client) error{
		"put": func(c *client.Client) error {
			_, err := c.Put(t.Context(), "foo", client.Value{Data: []byte("bar")}, client.Default)
			return err
		},
		"delete": func(c *client.Client) error { _, err := c.Delete(t.Context(), "foo", client.Default); return err },
	} {
		requests.Store(0)
		c := newClient(t, url)
		for i := range 2 {
			if err := call(c); err != nil {
				t.Errorf("%s %d: %v", verb, i, err)
			}
		}
		if requests.Load() != 3 {
			t.Errorf("%s: got %d requests, want the second one twice", verb, requests.Load())
		}
	}
}

func TestAnAnswerIsFinal(t *testing.T) {
	other := serve(t, func(w http.ResponseWriter, r *http.Request) { t.Error("the second server was asked") })
	for name, h := range map[string]http.HandlerFunc{
		"problem":  func(w http.ResponseWriter, r *http.Request) { problem(w, 503, `{"type":"urn:snakes:error:quorum"}`) },
		"text":     func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 500) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusFound) },
		"cut off": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
		},
	} {
		c := newClient(t, serve(t, h), other)
		if v, _, err := c.Get(t.Context(), "foo", client.Default); err == nil || errors.Is(err, client.ErrUnreachable) {
			t.Errorf("%s: got value %q, error %v; want the answer's error", name, v.Data, err)
		}
	}
}

// A node that stops or joins speaks for itself alone. If nobody is ready, what the first one says is worth most.
func TestEveryCallGoesToTheNextServerWhenOneIsNotReady(t *testing.T) {
	notReady := func(detail string) string {
		return serve(t, func(w http.ResponseWriter, _ *http.Request) {
			problem(w, 503, `{"type":"urn:snakes:error:not-ready","detail":"`+detail+`"}`)
		})
	}
	stops := notReady("it stops")
	ready := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusCreated)
		}
	})
	c := newClient(t, stops, ready)
	if _, err := c.Put(t.Context(), "foo", client.Value{}, client.Default); err != nil {
		t.Errorf("put: got error %v", err)
	}
	if _, _, err := newClient(t, stops, ready).Get(t.Context(), "foo", client.Default); err != nil {
		t.Errorf("get: got error %v", err)
	}
	_, _, err := newClient(t, stops, notReady("it joins"), refusing(t)).Get(t.Context(), "foo", client.Default)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Detail != "it stops" || !errors.Is(err, client.ErrNotReady) {
		t.Errorf("nobody is ready: got %v, want what the first one says", err)
	}
}

func TestNobodyAnswersNamesAllCauses(t *testing.T) {
	one, two := refusing(t), hangingUp(t)
	secret := strings.Replace(two, "http://", "http://user:password@", 1)
	_, err := newClient(t, one, secret).Put(t.Context(), "foo", client.Value{}, client.Default)
	if !errors.Is(err, client.ErrUnreachable) {
		t.Fatalf("got error %v, want ErrUnreachable", err)
	}
	for _, part := range []string{one, strings.TrimPrefix(two, "http://"), "refused", `put "foo"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got error %q, want it to say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "password") {
		t.Errorf("got error %q, which tells the password", err)
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	release := make(chan struct{})
	var asked atomic.Int64
	silent := serve(t, func(http.ResponseWriter, *http.Request) { asked.Add(1); <-release })
	t.Cleanup(func() { close(release) }) // before the server's end, which waits for its requests
	c := newClient(t, silent, silent)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := c.Get(ctx, "foo", client.Default)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("got error %v, want DeadlineExceeded and ErrUnreachable", err)
	}
	if got := asked.Load(); got > 1 { // none if the deadline came before the request was out
		t.Errorf("%d servers were asked, want none after the deadline", got)
	}
	ctx, end := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { end(errors.New("enough")) })
	_, err = c.Delete(ctx, "foo", client.Default)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "enough") {
		t.Errorf("got error %v, want Canceled and its cause", err)
	}
}

func TestValuesAreReadUpToTheLimit(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 100)
	endless := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(data); err != nil {
				return
			}
		}
	})
	exact := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(data) })
	for limit, want := range map[int64]error{99: client.ErrTooLarge, 100: nil} {
		_, _, err := configured(t, client.Config{Servers: []string{exact}, MaxValue: limit}).Get(t.Context(), "foo", client.Default)
		if !errors.Is(err, want) {
			t.Errorf("limit %d for 100 bytes: got error %v, want %v", limit, err, want)
		}
	}
	c := configured(t, client.Config{Servers: []string{endless}, MaxValue: 1 << 20})
	if _, _, err := c.Get(t.Context(), "foo", client.Default); !errors.Is(err, client.ErrTooLarge) {
		t.Errorf("answer without end: got error %v, want ErrTooLarge", err)
	}
}

func TestEmptyKeyIsRefusedBeforeItMeansSomethingElse(t *testing.T) {
	c := newClient(t, serve(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("got request for %s", r.RequestURI) }))
	_, _, get := c.Get(t.Context(), "", client.Default)
	_, put := c.Put(t.Context(), "", client.Value{}, client.Default)
	_, del := c.Delete(t.Context(), "", client.Default)
	_, inspect := c.Inspect(t.Context(), "")
	for _, err := range []error{get, put, del, inspect} {
		if !errors.Is(err, client.ErrBadRequest) {
			t.Errorf("got error %v, want ErrBadRequest", err)
		}
	}
}

func TestOwnHTTPClientIsUsedAndLeftAsItIs(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Through")) })
	own := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.Header.Set("Through", "it")
		return http.DefaultTransport.RoundTrip(r)
	})}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	v, _, err := configured(t, client.Config{Servers: []string{url}, HTTPClient: own}).Get(t.Context(), "foo", client.Default)
	if err != nil || string(v.Data) != "it" {
		t.Errorf("got %q, %v; want a request through the own client", v.Data, err)
	}
	if own.CheckRedirect != nil {
		t.Error("the own client was changed")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
