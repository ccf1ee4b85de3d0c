package client_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/protocol7/snakes/node/client"
)

// seer returns the address of a server that says it is the member with an id and knows those that knows returns, each
// "ID ADDRESS", once it is asked.
func seer(t *testing.T, id string, knows func() []string) string {
	return strings.TrimPrefix(serve(t, func(w http.ResponseWriter, r *http.Request) {
		var members []string
		for _, m := range knows() {
			other, address, _ := strings.Cut(m, " ")
			members = append(members, fmt.Sprintf(`{"id":%q,"name":%q,"address":%q}`, other, other, address))
		}
		fmt.Fprintf(w, `{"self":%q,"self_id":%q,"members":[%s]}`, id, id, strings.Join(members, ","))
	}), "http://")
}

func summary(views []client.View) (lines []string) {
	for _, v := range views {
		says := v.Members.Self
		if v.Err != nil {
			says = "no answer"
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", v.ID, strings.TrimPrefix(v.Server, "http://"), says))
	}
	return lines
}

// Who is only known to somebody who had to be asked first is asked, too; nobody twice; and another node at a member's
// address does not pass for it.
func TestSurveyAsksAllThatAnybodyKnows(t *testing.T) {
	var a, b, c string
	a = seer(t, "a", func() []string { return []string{"a " + a, "b " + b, "gone 127.0.0.1:1"} })
	b = seer(t, "b", func() []string { return []string{"a " + a, "b " + b, "c " + c, "moved " + a} })
	c = seer(t, "c", func() []string { return []string{"c " + c} })
	got, err := newClient(t, "http://127.0.0.1:1", "http://"+a, "http://"+a).Survey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"gone 127.0.0.1:1: no answer", "a " + a + ": a", "b " + b + ": b", "c " + c + ": c", "moved " + a + ": no answer",
	}
	if diff := cmp.Diff(want, summary(got)); diff != "" {
		t.Errorf("views (-want +got):\n%s", diff)
	}
}

func TestSurveyTellsWhyNobodyAnswers(t *testing.T) {
	refuses := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"type":"urn:snakes:error:unauthorized","title":"Unauthorized","detail":"show a token"}`)
	})
	views, err := newClient(t, "http://127.0.0.1:1", refuses).Survey(t.Context())
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "unauthorized" {
		t.Errorf("got %v, want what the server says", err)
	}
	if len(views) != 2 || views[0].Err == nil || views[1].Err == nil {
		t.Errorf("got %+v, want two views with errors", views)
	}
	if _, err := newClient(t, "http://127.0.0.1:1").Survey(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("got %v, want %v", err, client.ErrUnreachable)
	}
}

// A token that is to go by TLS alone must not reach the members' own addresses.
func TestSurveyKeepsTokensOutOfTheClear(t *testing.T) {
	member := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a member was asked, with %q", r.Header.Get("Authorization"))
	})
	proxy := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"self_id":"a","members":[{"id":"b","name":"b","address":%q}]}`, strings.TrimPrefix(member, "http://"))
	})
	c, err := client.New(client.Config{Servers: []string{proxy, "https://127.0.0.1:1"}, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if views, err := c.Survey(t.Context()); err != nil || len(views) != 2 {
		t.Errorf("got %+v and error %v, want the views of the servers alone", views, err)
	}
}

// Members that clients reach by TLS are asked by TLS, and may be shown the token.
func TestSurveyAsksMembersByTLSWhereClientsComeByTLS(t *testing.T) {
	member := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer secret" {
			t.Errorf("a member was shown %q, want the token", got)
		}
		w.Header().Set("Snakes-Node", "b")
		fmt.Fprint(w, `{"self":"b","self_id":"b","tls":true,"members":[]}`)
	}))
	t.Cleanup(member.Close)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Snakes-Node", "a")
		fmt.Fprintf(w, `{"self_id":"a","tls":true,"members":[{"id":"b","name":"b","address":%q}]}`, strings.TrimPrefix(member.URL, "https://"))
	}))
	t.Cleanup(server.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	c, err := client.New(client.Config{Servers: []string{server.URL}, Token: "secret", RootCAs: trusted})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	views, err := c.Survey(t.Context())
	if err != nil || len(views) != 2 || views[1].Err != nil || views[1].Server != member.URL {
		t.Errorf("got %+v and error %v, want the member's view", views, err)
	}
}
