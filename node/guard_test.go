package node

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/protocol7/snakes/node/token"
)

// asked is a request of a test, "METHOD /path", and the headers that it has.
type asked struct {
	what    string
	headers []string
}

// send sends a request to target and returns status and code of a problem, or the status alone.
func (a asked) send(t *testing.T, target string) string {
	t.Helper()
	method, path, _ := strings.Cut(a.what, " ")
	r, err := http.NewRequestWithContext(t.Context(), method, target+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(a.headers); i += 2 {
		r.Header.Set(a.headers[i], a.headers[i+1])
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
		r.Header.Del("Host")
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if challenge := response.Header.Get("WWW-Authenticate"); (response.StatusCode == 401) != strings.HasPrefix(challenge, "Bearer realm=") && response.StatusCode != 403 {
		t.Errorf("%s: got status %d with challenge %q", a.what, response.StatusCode, challenge)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if _, rest, found := strings.Cut(string(body), `{"type":"urn:snakes:error:`); found {
		code, _, _ := strings.Cut(rest, `"`)
		return response.Status[:3] + " " + code
	}
	return response.Status[:3]
}

var changesOfTheCluster = []string{"POST /-/leave", "POST /-/drain", "POST /-/undrain", "POST /-/repair?accept-loss=1", "DELETE /-/members/" + idB, "PUT /-/log-level", "POST /-/whatever", "GET /-/backup", "POST /-/restore"}

func TestOnlyThisMachineChangesTheClusterWithoutTokens(t *testing.T) {
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	config, _ := fakes()
	n := start(t, config)
	direct := "http://" + n.address
	proxy := httptest.NewServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: n.address}))
	defer proxy.Close()
	for _, what := range changesOfTheCluster {
		if got := (asked{what, nil}).send(t, direct); got == "403 forbidden" {
			t.Errorf("%s from this machine: got %s", what, got)
		}
		for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via", "X-Real-IP"} {
			if got := (asked{what, []string{header, "127.0.0.1"}}).send(t, direct); got != "403 forbidden" {
				t.Errorf("%s with %s: got %s, want 403 forbidden", what, header, got)
			}
		}
		if got := (asked{what, nil}).send(t, proxy.URL); got != "403 forbidden" {
			t.Errorf("%s through a proxy: got %s, want 403 forbidden", what, got)
		}
	}
	for _, what := range []string{"GET /foo", "PUT /foo", "DELETE /foo", "GET /-/members", "GET /-/ready"} {
		if got := (asked{what, nil}).send(t, proxy.URL); strings.HasPrefix(got, "40") && got != "404 not-found" {
			t.Errorf("%s through a proxy: got %s, want it served", what, got)
		}
	}
}

func TestARequestIsOfThisMachineByItsAddressAlone(t *testing.T) {
	for remote, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true,
		"192.0.2.1:1": false, "[2001:db8::1]:1": false, "": false, "localhost:1": false,
	} {
		r := httptest.NewRequest("POST", "/-/leave", nil)
		r.RemoteAddr = remote
		if got := fromThisMachine(r); got != want {
			t.Errorf("from %q: got %v, want %v", remote, got, want)
		}
	}
	old := httptest.NewRequest("POST", "/-/leave", nil)
	old.RemoteAddr, old.ProtoMinor = "127.0.0.1:1", 0
	if fromThisMachine(old) {
		t.Error("HTTP/1.0, as proxies speak it: got true, want false")
	}
}

func TestTokensAllowWhatTheirRolesDo(t *testing.T) {
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	set, err := token.Parse([]byte("read the-token-that-reads\nwrite the-token-that-writes\nadmin the-token-for-admins\n"))
	if err != nil {
		t.Fatal(err)
	}
	config, _ := fakes()
	config.Tokens = set
	target := "http://" + start(t, config).address
	const none, unknown, read, write, admin = "", "no-token-of-this-node", "the-token-that-reads", "the-token-that-writes", "the-token-for-admins"
	allowed := map[string][]string{ // the tokens that get through
		"GET /-/healthy": {none, unknown, read, write, admin},
		"GET /-/ready":   {none, unknown, read, write, admin},
		"GET /-/":        {none, unknown, read, write, admin},
		"GET /foo":       {read, write, admin},
		"HEAD /foo":      {read, write, admin},
		"GET /-/members": {read, write, admin},
		"GET /-/digest":  {read, write, admin},
		"GET /-/nothing": {read, write, admin},
		"PUT /foo":       {write, admin},
		"DELETE /foo":    {write, admin},
		"PUT /":          {write, admin},
		"PATCH /foo":     {write, admin},
	}
	for _, what := range changesOfTheCluster {
		allowed[what] = []string{admin}
	}
	for what, tokens := range allowed {
		for _, shown := range []string{none, unknown, read, write, admin} {
			want := "403"
			switch {
			case slices.Contains(tokens, shown):
				want = ""
			case shown == none || shown == unknown:
				want = "401"
			}
			request := asked{what: what}
			if shown != none {
				request.headers = []string{"Authorization", "Bearer " + shown}
			}
			got := request.send(t, target)
			refused := strings.HasPrefix(got, "401") || strings.HasPrefix(got, "403")
			if want == "" && refused || want != "" && !strings.HasPrefix(got, want) {
				t.Errorf("%s with token %q: got %s, want %q", what, shown, got, want)
			}
		}
	}
	for _, header := range []string{read, "Basic " + read, "bearer" + read, "Bearer  " + read} {
		if got := (asked{"GET /foo", []string{"Authorization", header}}).send(t, target); got != "401 unauthorized" {
			t.Errorf("Authorization %q: got %s, want 401 unauthorized", header, got)
		}
	}
}

func TestPagesOfOtherSitesChangeNothing(t *testing.T) {
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	config, _ := fakes()
	n := start(t, config)
	target := "http://" + n.address
	for _, what := range []string{"PUT /foo", "DELETE /foo", "POST /-/leave", "DELETE /-/members/" + idB} {
		for _, headers := range [][]string{{"Origin", "http://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "null"}} {
			if got := (asked{what, headers}).send(t, target); got != "403 forbidden" {
				t.Errorf("%s with %v: got %s, want 403 forbidden", what, headers, got)
			}
		}
		for _, headers := range [][]string{nil, {"Origin", target}, {"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "none"}} {
			if got := (asked{what, headers}).send(t, target); got == "403 forbidden" {
				t.Errorf("%s with %v: got %s, want it served", what, headers, got)
			}
		}
	}
	if got := (asked{"GET /-/members", []string{"Origin", "http://evil.example"}}).send(t, target); got != "200" {
		t.Errorf("a read: got %s; what the page may see of it is up to the browser", got)
	}
}

func TestANodeOnLoopbackIsAskedByItsOwnNamesAlone(t *testing.T) {
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	n := run(t, Config{Name: "my-node.example"})
	target := "http://" + n.Address()
	for host, want := range map[string]string{
		"localhost": "200", "LOCALHOST:9000": "200", "localhost.": "200", "a.localhost:1": "200", "127.0.0.1": "200", "127.0.0.2:80": "200",
		"[::1]:9000": "200", "my-node.example:9000": "200", n.Address(): "200",
		"evil.example": "421 misdirected", "evil.example:9000": "421 misdirected", "127.0.0.1.evil.example": "421 misdirected",
		"localhost.evil.example": "421 misdirected", "192.0.2.1:9000": "421 misdirected", "evillocalhost": "421 misdirected",
	} {
		if got := (asked{"GET /-/members", []string{"Host", host}}).send(t, target); got != want {
			t.Errorf("Host %q: got %s, want %s", host, got, want)
		}
	}
	exposed := run(t, Config{Bind: "0.0.0.0", Advertise: "127.0.0.1", Insecure: true})
	if got := (asked{"GET /-/members", []string{"Host", "anything.example"}}).send(t, "http://"+exposed.Address()); got != "200" {
		t.Errorf("a node on the network: got %s, want 200: its names are given by others", got)
	}
}

func TestTokensNeedASecret(t *testing.T) {
	err := Config{TokenFile: "tokens"}.Validate()
	if err == nil || !strings.Contains(err.Error(), "--token-file needs --secret-file") {
		t.Errorf("got %v, want it refused", err)
	}
}
