package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/node/client"
)

// running is a node that serves until the test ends.
type running struct {
	*Node
	end  context.CancelFunc
	done chan error
}

func run(t testing.TB, cfg Config) *running {
	t.Helper()
	if cfg.Data == "" {
		cfg.Data = t.TempDir()
	}
	if testing.Verbose() {
		cfg.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: testLog{t}})
	}
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return started(t, n)
}

// started runs n until the test ends.
func started(t testing.TB, n *Node) *running {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	r := &running{Node: n, end: end, done: make(chan error, 1)}
	go func() { r.done <- n.Run(ctx) }()
	t.Cleanup(r.stop(t))
	return r
}

// stop ends the node in good order.
func (r *running) stop(t testing.TB) func() {
	return func() {
		t.Helper()
		r.end()
		select {
		case err := <-r.done:
			if err != nil {
				t.Errorf("%s: %v", r.Name(), err)
			}
			r.done <- nil // for who stops it again
		case <-time.After(30 * time.Second):
			t.Errorf("%s has not ended", r.Name())
		}
	}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// ask sends a request and returns "status body".
func (r *running) ask(t testing.TB, method, path, body string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Address()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", response.StatusCode, b))
}

// states returns "known: states" as the node sees them.
func (r *running) states(t testing.TB) string {
	t.Helper()
	answer := r.ask(t, http.MethodGet, "/-/members", "")
	var members client.Members
	if err := json.Unmarshal([]byte(strings.TrimPrefix(answer, "200 ")), &members); err != nil {
		return answer
	}
	var states []string
	for _, m := range members.Members {
		states = append(states, m.State)
	}
	return fmt.Sprintf("%d: %s", members.Known, strings.Join(states, " "))
}

func awaitStates(t testing.TB, want string, nodes ...*running) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for _, n := range nodes {
		for n.states(t) != want {
			if time.Now().After(deadline) {
				t.Fatalf("%s sees %q, want %q", n.Name(), n.states(t), want)
			}
			time.Sleep(5 * time.Millisecond) // between two looks
		}
	}
}

func TestThreeNodesInOneProcessAreACluster(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := run(t, Config{Name: "a"})
	b := run(t, Config{Name: "b", Join: []string{a.Address()}})
	c := run(t, Config{Name: "c", Join: []string{"http://" + b.Address() + "/"}})
	awaitStates(t, "3: alive alive alive", a, b, c)
	for _, step := range []struct {
		node                     *running
		method, path, body, want string
	}{
		{a, "PUT", "/foo", "some value", "201"},
		{c, "GET", "/foo?r=2", "", "200 some value"},
		{b, "PUT", "/foo?w=4", "another", "201"},
		{a, "GET", "/foo?r=all", "", "200 another"},
		{c, "DELETE", "/foo", "", "204"},
		{b, "GET", "/-/healthy", "", "200 healthy"},
	} {
		if got := step.node.ask(t, step.method, step.path, step.body); got != step.want {
			t.Errorf("%s %s at %s: got %q, want %q", step.method, step.path, step.node.Name(), got, step.want)
		}
	}
	if got := b.ask(t, "GET", "/foo", ""); !strings.HasPrefix(got, "404 ") {
		t.Errorf("deleted key: got %q, want 404", got)
	}
	digests := map[string]bool{}
	for _, n := range []*running{a, b, c} {
		digests[n.ask(t, "GET", "/-/digest", "")] = true
	}
	if len(digests) != 1 {
		t.Errorf("digests differ: %v", digests)
	}
	b.stop(t)()
	awaitStates(t, "3: alive stopped alive", a, c)
	if got := c.ask(t, "PUT", "/bar", "x"); got != "201" {
		t.Errorf("put without b: got %q, want 201", got)
	}
}

func TestSyncLimitHoldsBackANodeThatCatchesUp(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	const limit = 1 << 20
	value := strings.Repeat("x", limit)
	a := run(t, Config{Name: "a"})
	for i := range 4 { // none shares a page with the next
		if got := a.ask(t, "PUT", fmt.Sprintf("/key%d", i), value); got != "201" {
			t.Fatal(got)
		}
	}
	started := time.Now()
	b := run(t, Config{Name: "b", Join: []string{a.Address()}, SyncLimit: limit})
	awaitStates(t, "2: alive alive", a, b)
	if took := time.Since(started); took < 3*time.Second {
		t.Errorf("4 MiB took %v, want 3 s at least with a limit of 1 MiB/s", took)
	}
}

func TestOpenSaysWhatIsWrongAndWhatToRun(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  Config
		want string
	}{
		"exposed":           {Config{Bind: "0.0.0.0", Port: 9000}, "snakes -p 9000 --bind 0.0.0.0 --insecure"},
		"exposed, secretly": {Config{Bind: "0.0.0.0", Port: 9000}, "snakes secret secret.txt\n                                    snakes -p 9000 --bind 0.0.0.0 --secret-file secret.txt\n"},
		"no secret file":    {Config{Bind: "0.0.0.0", SecretFile: "none"}, "secret file: open none: "},
		"v4 seed, secretly": {Config{Bind: "::1", SecretFile: "s", Join: []string{"192.0.2.1"}}, "use --bind 0.0.0.0 --secret-file s"},
		"v4 seed, neither":  {Config{Bind: "::1", Join: []string{"192.0.2.1"}}, "use --bind 0.0.0.0 --secret-file FILE"},
		"bad port":          {Config{Port: 70000}, "port 70000"},
		"bad name":          {Config{Name: "A b"}, `"A b"`},
		"bad cluster":       {Config{Cluster: "a_b"}, `"a_b"`},
		"bad seed":          {Config{Join: []string{"ftp://x"}}, `"ftp://x"`},
		"seed with a path":  {Config{Join: []string{"http://x:1/foo"}}, `"http://x:1/foo"`},
		"unreachable":       {Config{Join: []string{"192.0.2.1:9000"}}, "--advertise"},
		"negative maximum":  {Config{MaxValue: -1}, "-1 bytes"},
		"negative limit":    {Config{SyncLimit: -1}, "-1 bytes per second"},
		"advertise no port": {Config{Advertise: "a b"}, `"a b"`},
		"advertise all":     {Config{Advertise: "0.0.0.0"}, "advertised address 0.0.0.0 stands for all"},
		"advertise all, v6": {Config{Advertise: "[::]:9000"}, "advertised address :: stands for all"},
		"bind nonsense":     {Config{Bind: "nonsense"}, `bind address "nonsense" is not an IP address`},
		"bind with a port":  {Config{Bind: "127.0.0.1:9005"}, "--bind 127.0.0.1 --port 9005"},
		"bind bad brackets": {Config{Bind: "[127.0.0.1"}, `"[127.0.0.1"`},
		"local v6 seed":     {Config{Join: []string{"[::1]:9000"}}, "use --bind ::1"},
		"local v4 seed":     {Config{Bind: "::1", Join: []string{"127.0.0.1"}}, "use --bind 127.0.0.1"},
		"v6 seed":           {Config{Bind: "0.0.0.0", Insecure: true, Join: []string{"2001:db8::1"}}, "use --bind :: --insecure"},
		"v4 seed":           {Config{Bind: "2001:db8::2", Insecure: true, Join: []string{"x", "192.0.2.1"}}, "use --bind 0.0.0.0 --insecure"},
	} {
		cfg := test.cfg
		cfg.Data = t.TempDir()
		_, err := Open(cfg)
		var usage *UsageError
		if !errors.As(err, &usage) || len(usage.Problems) != 1 || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want a UsageError with %q alone", name, err, test.want)
		}
	}
}

func TestAddressesThatFitEachOtherAreTaken(t *testing.T) {
	for _, cfg := range []Config{
		{Bind: "[::1]", Join: []string{"[::1]:9000"}},
		{Bind: "localhost", Join: []string{"[::1]:9000"}},
		{Bind: "::", Insecure: true, Join: []string{"127.0.0.1:9000", "[::1]:9000"}},
		{Bind: "[::]", Insecure: true, Join: []string{"192.0.2.1:9000"}, Advertise: "192.0.2.2"},
		{Bind: "127.0.0.2", Join: []string{"::ffff:127.0.0.1", "seed"}},
	} {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%+v: got %v", cfg, err)
		}
	}
	if got := (Config{Bind: "[::1]"}).withDefaults().Bind; got != "::1" {
		t.Errorf("bind [::1]: got %q, want ::1", got)
	}
}

func TestAdvertisedNameMustResolveBeforeAnythingIsPromised(t *testing.T) {
	var out strings.Builder
	// No name ends with a dash and a dot, so that nobody is asked for it.
	_, err := Open(Config{Data: t.TempDir(), Advertise: "nobody-.", Output: &out})
	if err == nil || !strings.Contains(err.Error(), "the host nobody-. does not resolve") || out.Len() > 0 {
		t.Errorf("got %v and banner %q, want an error that names the host and no banner", err, out.String())
	}
	hangs := func(ctx context.Context, _ string) ([]string, error) { <-ctx.Done(); return nil, ctx.Err() }
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := resolves(t.Context(), "host:9000", hangs); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != resolveTime {
			t.Errorf("got %v after %v, want DeadlineExceeded after %v", err, time.Since(start), resolveTime)
		}
	})
}

func TestDataOfAnotherClusterNameIsRefusedPlainly(t *testing.T) {
	a := run(t, Config{Cluster: "red"})
	a.stop(t)()
	_, err := Open(Config{Data: a.cfg.Data, Cluster: "blue"})
	if !errors.Is(err, membership.ErrOtherName) || !strings.Contains(err.Error(), a.cfg.Data) || !strings.Contains(err.Error(), "red") {
		t.Errorf("got %v, want ErrOtherName with directory and name", err)
	}
}

func TestSeedsAreWrittenInManyWays(t *testing.T) {
	for given, want := range map[string]string{
		"host":              "host:9000",
		"host:9001":         "host:9001",
		"http://host:9001":  "host:9001",
		"http://host:9001/": "host:9001",
		"http://host":       "host:9000",
		"127.0.0.1":         "127.0.0.1:9000",
		"[::1]:9001":        "[::1]:9001",
		"::1":               "[::1]:9000",
		"[fe80::1%eth0]:9":  "[fe80::1%eth0]:9",
	} {
		if got, err := parseAddress(given, DefaultPort); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", given, got, err, want)
		}
	}
	for _, given := range []string{"", "host:", "host:0", "host:70000", "host:x", "ftp://host", "http://u:p@host", "http://host/x", "a b", "http://"} {
		if got, err := parseAddress(given, DefaultPort); err == nil {
			t.Errorf("%q: got %q, want an error", given, got)
		}
	}
}

func TestOneProcessPerDataDirectory(t *testing.T) {
	a := run(t, Config{})
	if _, err := Open(Config{Data: a.cfg.Data}); err == nil {
		t.Errorf("a second node opened %s", a.cfg.Data)
	}
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	a := run(t, Config{})
	port := int(a.transport.Addr().Port())
	if _, err := Open(Config{Data: t.TempDir(), Port: port}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(port)) {
		t.Errorf("got %v, want an error that names port %d", err, port)
	}
}

func TestTheBannerSaysWhatToRunNext(t *testing.T) {
	var out strings.Builder
	a := run(t, Config{Cluster: "blue", Output: &out})
	port := int(a.transport.Addr().Port())
	for _, want := range []string{
		a.cfg.Data,
		fmt.Sprintf("curl -X PUT -d \"some value\" http://127.0.0.1:%d/foo", port),
		fmt.Sprintf("http://127.0.0.1:%d/-/members", port),
		fmt.Sprintf("--cluster blue --join 127.0.0.1:%d\n", port),
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("banner lacks %q:\n%s", want, out.String())
		}
	}
}

func TestTheBannerPromisesWhatHolds(t *testing.T) {
	a := run(t, Config{})
	for _, row := range []struct {
		name       string
		cfg        Config
		want, lack string
	}{
		{"joining", Config{Join: []string{"127.0.0.1:1"}}, "  joining    127.0.0.1:1; until then only ?w=1 and ?r=1 are served\n", "/foo\n"},
		{"joining", Config{Join: []string{"127.0.0.1:1"}}, `/foo?w=1"`, "/foo\n"},
		{"alone", Config{}, "/foo\n", "joining"},
		{"v6", Config{Bind: "[::1]"}, "--bind ::1 --join [::1]:", "--insecure"},
		{"other loopback", Config{Bind: "127.0.0.2"}, "--bind 127.0.0.2 --join 127.0.0.2:", "--insecure"},
		{"exposed", Config{Bind: "0.0.0.0", Insecure: true, Join: []string{a.Address()}}, "--bind 0.0.0.0 --insecure --join 127.0.0.1:", "/foo\n"},
	} {
		var out strings.Builder
		row.cfg.Output = &out
		n := run(t, row.cfg)
		if got := out.String(); !strings.Contains(got, row.want) || strings.Contains(got, row.lack) {
			t.Errorf("%s: got %q, want %q and not %q", row.name, got, row.want, row.lack)
		}
		n.stop(t)()
	}
}
