package node

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/node/secret"
	"github.com/protocol7/snakes/replication/version"
)

const (
	oldSecret = "the old secret of the cluster"
	newSecret = "the new secret of the cluster"
)

// secretFile returns a file with these lines.
func secretFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret.txt")
	writeSecrets(t, path, lines...)
	return path
}

func writeSecrets(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runProtected runs a node with a secret on loopback.
func runProtected(t *testing.T, cfg Config, lines ...string) *running {
	t.Helper()
	cfg.SecretFile, cfg.Bind = secretFile(t, lines...), loopback
	return run(t, cfg)
}

func TestNodesWithASecretAreACluster(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := runProtected(t, Config{Name: "a"}, oldSecret)
	b := runProtected(t, Config{Name: "b", Join: []string{a.Address()}}, oldSecret)
	c := runProtected(t, Config{Name: "c", Join: []string{a.Address()}}, oldSecret)
	awaitStates(t, "3: alive alive alive", a, b, c)
	before := b.transport.Stats().Requests + c.transport.Stats().Requests
	for i := range 200 {
		if got := a.ask(t, "PUT", "/foo?w=all", fmt.Sprint(i)); got != "201" {
			t.Fatal(got)
		}
	}
	if got := b.transport.Stats().Requests + c.transport.Stats().Requests - before; got > 20 {
		t.Errorf("200 writes took %d new connections to the others, want them kept: each costs a handshake", got)
	}
	if got := c.ask(t, "GET", "/foo?r=all", ""); got != "200 199" {
		t.Errorf("got %q, want what was put", got)
	}
	for path, want := range map[string]string{
		"/-/members": `"protected":true`, "/-/members?format=text": ", writable, protected\n",
	} {
		if got := b.ask(t, "GET", path, ""); !strings.Contains(got, want) {
			t.Errorf("GET %s: got %q, want %q in it", path, got, want)
		}
	}
	if got := b.ask(t, "GET", "/-/ready", ""); !strings.HasPrefix(got, "200 ") || strings.Contains(got, "INSECURE") {
		t.Errorf("got %q, want ready", got)
	}
}

// peerOps are all that nodes ask of each other.
var peerOps = []string{"write", "lookup", "fetch", "pull", "page", "exchange", "buckets", "contents", "consent", "nothing", ""}

// forge returns a request between nodes with the headers that node from would send to node to.
func forge(t *testing.T, method, target, op string, from, to *Node) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target+peerPath+op, bytes.NewReader(appendText(nil, "foo")))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", peerType)
	r.Header.Set(headerProtocol, protocol)
	r.Header.Set(headerTo, to.id)
	r.Header.Set(headerRoster, from.membership.Stamp())
	setHello(r.Header, from.hello())
	return r
}

// Whoever cannot show a certificate of the cluster gets 403 and nothing else between nodes, whatever it sends.
func TestStrangersGetNothingBetweenNodes(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := runProtected(t, Config{Name: "a"}, oldSecret)
	b := runProtected(t, Config{Name: "b", Join: []string{a.Address()}}, oldSecret)
	awaitStates(t, "2: alive alive", a, b)
	if got := a.ask(t, "PUT", "/foo?w=all", "precious"); got != "201" {
		t.Fatal(got)
	}
	direct := "http://" + a.Address()
	proxied := httptest.NewServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: a.Address()}))
	defer proxied.Close()
	for _, target := range []string{direct, proxied.URL} {
		for _, op := range peerOps {
			for _, method := range []string{"POST", "GET", "PUT", "OPTIONS"} {
				r := forge(t, method, target, op, b.Node, a.Node)
				r.Header.Set("X-Forwarded-For", "127.0.0.1")
				r.Header.Set("X-Forwarded-Client-Cert", "snakes:node:"+b.id)
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 403 || response.Header.Get("Content-Type") != "application/problem+json" ||
					!strings.Contains(string(body), `"urn:snakes:error:forbidden"`) || response.Header.Get(headerFrom) != "" {
					t.Errorf("%s %s at %s: got %d %q, %v; want a problem with 403", method, op, target, response.StatusCode, body, err)
				}
			}
		}
	}
	for _, spelled := range []string{"/-/%70eer/fetch", "/-//peer/fetch", "//-/peer/fetch", "/x/../-/peer/fetch", "/-/peer%2ffetch", "/-/PEER/fetch", "/-/peer"} {
		r := forge(t, "POST", direct, "fetch", b.Node, a.Node)
		r.URL.Opaque = spelled
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode < 400 || bytes.Contains(body, []byte("precious")) {
			t.Errorf("POST %s: got %d %q, want an error", spelled, response.StatusCode, body)
		}
	}
	// That the requests are right, and only their connection is wrong, the same one with the right one shows.
	trusted := &http.Client{Transport: &http.Transport{TLSClientConfig: b.identity.Client(a.id)}}
	defer trusted.CloseIdleConnections()
	response, err := trusted.Do(forge(t, "POST", "https://"+a.Address(), "fetch", b.Node, a.Node))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != 200 || !bytes.Contains(body, []byte("precious")) {
		t.Errorf("over the connection of a node: got %d %q, want the value", response.StatusCode, body)
	}
	// A node speaks for itself alone.
	other := b.hello()
	r := forge(t, "POST", "https://"+a.Address(), "fetch", b.Node, a.Node)
	other.ID = strings.Repeat("0", 32)
	setHello(r.Header, other)
	if response, err = trusted.Do(r); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 403 {
		t.Errorf("in the name of another node: got %d, want 403", response.StatusCode)
	}
}

// What a client's TLS can be, with which no request gets anywhere.
func TestTLSOfStrangersEndsInTheHandshake(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := runProtected(t, Config{Name: "a"}, oldSecret)
	ask := func(config *tls.Config) error {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		response, err := client.Get("https://" + a.Address() + "/-/healthy")
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	identityOf := func(line, cluster string) *secret.Identity {
		set, err := secret.Parse([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		i, err := secret.NewIdentity(set, cluster, idB, nil)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	careless := func(config *tls.Config) *tls.Config {
		config.VerifyConnection = nil
		return config
	}
	for name, config := range map[string]*tls.Config{
		"a browser":       {InsecureSkipVerify: true},
		"http/2":          {InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}},
		"no certificate":  {InsecureSkipVerify: true, NextProtos: []string{secret.Protocol}},
		"another secret":  careless(identityOf(newSecret, DefaultCluster).Client(a.id)),
		"another cluster": careless(identityOf(oldSecret, "another").Client(a.id)),
	} {
		if err := ask(config); err == nil {
			t.Errorf("%s: got an answer, want none", name)
		}
	}
	if err := ask(identityOf(oldSecret, DefaultCluster).Client(a.id)); err != nil {
		t.Errorf("a node: %v", err)
	}
}

func TestNodesOfOtherSecretsDoNotJoin(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := runProtected(t, Config{Name: "a"}, oldSecret)
	others := []*running{
		runProtected(t, Config{Name: "b", Join: []string{a.Address()}}, newSecret),
		runProtected(t, Config{Name: "b", Join: []string{a.Address()}}, newSecret, oldSecret), // accepts ours, uses another
		run(t, Config{Name: "c", Join: []string{a.Address()}}),
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		awaitStates(t, "1: alive", a)
		for _, n := range others {
			if got := n.states(t); got != "1: joining" {
				t.Fatalf("%s sees %q, want nobody", n.Name(), got)
			}
		}
	}
}

// plainPeers is the asking side of a node that has an identity, or none, and knows addresses.
func plainPeers(t *testing.T, identity *secret.Identity, addresses map[string]string, log io.Writer) *peers {
	t.Helper()
	p := newPeers(peersConfig{
		Hello: func() membership.Hello {
			return membership.Hello{ID: idA, ClusterID: "c1", Address: "127.0.0.1:9000", Origin: 0xa}
		},
		Addresses: func(id string) (string, bool) { address, known := addresses[id]; return address, known },
		Roster:    &fakeNews{stamp: "s1"}, Clock: version.NewClock(nil, version.Timestamp{}), Identity: identity,
		Logger: hclog.New(&hclog.LoggerOptions{Output: log}),
	})
	t.Cleanup(p.Close)
	return p
}

// A connection to one node never carries what is meant for another, even if both are said to be at one address.
func TestARequestReachesTheNodeThatItIsMeantFor(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	const stranger = "dddddddddddddddddddddddddddddddd"
	for _, host := range []string{loopback, "::1"} {
		a := run(t, Config{Name: "a", Bind: host, SecretFile: secretFile(t, oldSecret)})
		var log strings.Builder
		id, err := secret.NewIdentity(*a.secrets.Load(), DefaultCluster, idA, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := plainPeers(t, id, map[string]string{a.id: a.Address(), stranger: a.Address()}, &log)
		for range 2 {
			if _, err := p.Buckets(t.Context(), a.id); !errors.Is(err, membership.ErrOtherCluster) {
				t.Errorf("%s: got %v, want the answer of the node", host, err)
			}
			before := a.transport.Stats().Requests
			if _, err := p.Buckets(t.Context(), stranger); !errors.Is(err, errMisdirected) || !errors.Is(err, secret.ErrOtherNode) {
				t.Errorf("%s: asked for another node: got %v, want %v", host, err, errMisdirected)
			}
			if a.transport.Stats().Requests == before {
				t.Errorf("%s: what was meant for another node went out on the connection to this one", host)
			}
		}
		if log.Len() > 0 {
			t.Errorf("%s: got log %q, want none: that an address is reused is nothing that people must know of", host, log.String())
		}
	}
}

func TestANodeThatCannotProveItselfIsLoggedOnce(t *testing.T) {
	set, err := secret.Parse([]byte(oldSecret))
	if err != nil {
		t.Fatal(err)
	}
	id, err := secret.NewIdentity(set, DefaultCluster, idA, nil)
	if err != nil {
		t.Fatal(err)
	}
	open := run(t, Config{Name: "open"})
	other := runProtected(t, Config{Name: "other"}, newSecret)
	var log strings.Builder
	p := plainPeers(t, id, map[string]string{open.id: open.Address(), other.id: other.Address()}, &log)
	for range 3 {
		if _, err := p.Buckets(t.Context(), open.id); err == nil {
			t.Error("a node without a secret: got no error")
		}
		if _, err := p.Buckets(t.Context(), other.id); !errors.Is(err, secret.ErrOtherSecret) {
			t.Errorf("a node with another secret: got %v, want %v", err, secret.ErrOtherSecret)
		}
	}
	for _, n := range []*running{open, other} {
		if got := strings.Count(log.String(), n.id); got != 1 {
			t.Errorf("%s: got %d lines in the log, want 1: %s", n.Name(), got, log.String())
		}
	}
	// The other way round.
	p = plainPeers(t, nil, map[string]string{other.id: other.Address()}, &log)
	if _, err := p.Buckets(t.Context(), other.id); !errors.Is(err, errBadMessage) {
		t.Errorf("a node with a secret, asked without: got %v, want %v", err, errBadMessage)
	}
}

// load has clients write and read until it is ended, and returns how many requests they made and the first that failed.
func load(t *testing.T, nodes ...*running) (end func() (requests int, failed string)) {
	t.Helper()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var mu sync.Mutex
	var requests int
	var failed string
	for i, n := range nodes {
		clients.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-stop:
					return
				default:
				}
				put := n.ask(t, "PUT", fmt.Sprintf("/key%d?w=all", i), fmt.Sprint(round))
				get := n.ask(t, "GET", fmt.Sprintf("/key%d?r=all", i), "")
				mu.Lock()
				requests += 2
				if want := "200 " + fmt.Sprint(round); failed == "" && (put != "201" || get != want) {
					failed = fmt.Sprintf("%s, round %d: PUT %q, GET %q", n.Name(), round, put, get)
				}
				mu.Unlock()
			}
		})
	}
	return func() (int, string) {
		close(stop)
		clients.Wait()
		return requests, failed
	}
}

// Every node in its turn, at every step, with requests that need all of them: none fails, and the old secret is worth
// nothing in the end, on connections from before either.
func TestASecretIsReplacedWithoutAFailedRequest(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var nodes []*running
	var files []string
	var reloads []chan os.Signal
	for i := range 3 {
		files, reloads = append(files, secretFile(t, oldSecret)), append(reloads, make(chan os.Signal, 1))
		cfg := Config{Name: fmt.Sprintf("n%d", i), Bind: loopback, SecretFile: files[i], Reload: reloads[i]}
		if i > 0 {
			cfg.Join = []string{nodes[0].Address()}
		}
		nodes = append(nodes, run(t, cfg))
	}
	awaitStates(t, "3: alive alive alive", nodes...)
	thief, err := secret.NewIdentity(*nodes[0].secrets.Load(), DefaultCluster, idA, nil)
	if err != nil {
		t.Fatal(err)
	}
	stolen := plainPeers(t, thief, map[string]string{nodes[0].id: nodes[0].Address()}, io.Discard)
	if _, err := stolen.Buckets(t.Context(), nodes[0].id); !errors.Is(err, membership.ErrOtherCluster) {
		t.Fatalf("with the old secret, before: got %v, want the answer of a node", err)
	}
	end := load(t, nodes...)
	for _, lines := range [][]string{{oldSecret, newSecret}, {newSecret, oldSecret}, {newSecret}} {
		for i, n := range nodes {
			writeSecrets(t, files[i], lines...)
			reloads[i] <- os.Interrupt
			set, err := secret.Parse([]byte(strings.Join(lines, "\n")))
			if err != nil {
				t.Fatal(err)
			}
			await(t, "taken in", func() bool { return n.secrets.Load().Equal(set) })
			time.Sleep(100 * time.Millisecond) // some requests at each step
		}
	}
	requests, failed := end()
	t.Logf("%d requests", requests)
	if failed != "" || requests < 20 {
		t.Errorf("got %d requests, failed: %s; want many and none that failed", requests, failed)
	}
	nodes = append(nodes, runProtected(t, Config{Name: "n3", Join: []string{nodes[1].Address()}}, newSecret))
	awaitStates(t, "4: alive alive alive alive", nodes...)
	var asked []bool
	for range 2 {
		_, err = stolen.Buckets(t.Context(), nodes[0].id)
		asked = append(asked, errors.Is(err, membership.ErrOtherCluster))
	}
	if slices.Contains(asked, true) || !errors.Is(err, secret.ErrOtherSecret) {
		t.Errorf("with the old secret: answered %v, and then got %v; want no answer and %v", asked, err, secret.ErrOtherSecret)
	}
}

// A slip of the pen must not open or close a cluster.
func TestABadSecretFileChangesNothing(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var log syncLog
	reload := make(chan os.Signal, 1)
	file := secretFile(t, oldSecret)
	n, err := Open(Config{Data: t.TempDir(), Name: "a", Bind: loopback, SecretFile: file, Reload: reload, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})})
	if err != nil {
		t.Fatal(err)
	}
	a := started(t, n)
	b := runProtected(t, Config{Name: "b", Join: []string{a.Address()}}, oldSecret)
	awaitStates(t, "2: alive alive", a, b)
	writeSecrets(t, file, newSecret, "short")
	reload <- os.Interrupt
	await(t, "word of it", func() bool { return strings.Contains(log.String(), "line 2 has 5 bytes") })
	if got := strings.Count(log.String(), "[ERROR]"); got != 1 || strings.Contains(log.String(), newSecret) {
		t.Errorf("got %d errors in the log, want 1 and no secret: %s", got, log.String())
	}
	kept, _ := a.events.After(0)
	if text := fmt.Sprint(kept); !strings.Contains(text, "secret file not taken in") || strings.Contains(text, file) {
		t.Errorf("got events %s, want word of the file without its path", text)
	}
	a.peers.Renew() // so that it has to prove itself anew
	if got := a.ask(t, "PUT", "/foo?w=all", "x"); got != "201" {
		t.Errorf("after it: %s", got)
	}
}

// syncLog is a log that can be read while it is written.
type syncLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *syncLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The secret of a running process is that of its start and of SIGHUP, not what is in the file when the node begins anew.
func TestANodeThatBeginsAnewKeepsItsSecrets(t *testing.T) {
	n := newNode(Config{SecretFile: filepath.Join(t.TempDir(), "none"), Data: t.TempDir(), Bind: loopback})
	set, err := secret.Parse([]byte(oldSecret))
	if err != nil {
		t.Fatal(err)
	}
	n.secrets.Store(&set)
	if err := n.open(); err != nil {
		t.Error(err)
	}
	if err := n.close(); err != nil {
		t.Error(err)
	}
}

func TestASecretOpensTheNodeToTheNetwork(t *testing.T) {
	file := secretFile(t, oldSecret)
	for _, test := range []struct {
		cfg  Config
		bind string
	}{
		{Config{}, "127.0.0.1"},
		{Config{SecretFile: file}, "::"},
		{Config{SecretFile: file, Bind: "127.0.0.1"}, "127.0.0.1"},
		{Config{SecretFile: file, Bind: "0.0.0.0"}, "0.0.0.0"},
	} {
		cfg := test.cfg.withDefaults()
		if err := cfg.Validate(); err != nil || cfg.Bind != test.bind || cfg.exposed() {
			t.Errorf("%+v: listens on %s, exposed: %v, error %v; want %s", test.cfg, cfg.Bind, cfg.exposed(), err, test.bind)
		}
	}
	var out strings.Builder
	a := run(t, Config{SecretFile: file, Output: &out})
	if _, port, _ := net.SplitHostPort(a.Address()); !a.transport.Addr().Addr().IsUnspecified() ||
		!strings.Contains(out.String(), " --secret-file "+file+" --join ") || strings.Contains(out.String(), "--bind") {
		t.Errorf("got port %s at %v and banner %q, want all addresses and a line for the next node", port, a.transport.Addr(), out.String())
	}
}

func TestInsecureIsSaidWhereverSomebodyLooks(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var out strings.Builder
	n := run(t, Config{Bind: "0.0.0.0", Advertise: "127.0.0.1", Insecure: true, Output: &out})
	if !strings.HasPrefix(out.String(), "WARNING: --insecure: ") {
		t.Errorf("got banner %q, want a warning first", out.String())
	}
	await(t, "ready, and INSECURE", func() bool {
		got := n.ask(t, "GET", "/-/ready", "")
		return strings.HasPrefix(got, "200 ") && strings.Contains(got, "[!] INSECURE: ")
	})
	if got := n.ask(t, "GET", "/-/members?format=text", ""); !strings.Contains(got, ", writable, INSECURE\n") {
		t.Errorf("got %q, want INSECURE", got)
	}
	if got := n.ask(t, "GET", "/-/members", ""); !strings.Contains(got, `"protected":false`) {
		t.Errorf("got %q, want it not protected", got)
	}
}
