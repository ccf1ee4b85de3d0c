package load

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server counts what it is asked.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	asked  map[string]int // by method and target
	bodies map[string]int
}

func newServer(t *testing.T, answer http.HandlerFunc) *server {
	t.Helper()
	s := &server{asked: make(map[string]int), bodies: make(map[string]int)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the load has ended
		}
		s.mu.Lock()
		s.asked[r.Method+" "+r.RequestURI]++
		s.bodies[string(body)]++
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func created(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }

func start(t *testing.T, cfg Config) *Load {
	t.Helper()
	l, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

func TestEachKeyOfASequenceIsPutOnceAndCounted(t *testing.T) {
	s := newServer(t, created)
	l := start(t, Config{
		Servers: []string{s.URL}, Format: Snakes("", "quorum"), Prefix: "k", Keys: Sequence(7), Value: []byte("value"),
		Connections: 5, Requests: 100,
	})
	result := l.Wait()
	if result.Requests() != 100 || result.Failures() != 0 || l.Done() != 100 {
		t.Errorf("got %d requests, %d failures, %d done; want 100, 0, 100", result.Requests(), result.Failures(), l.Done())
	}
	for i := range 100 {
		target := fmt.Sprintf("PUT /k%09d?w=quorum", i+7)
		if got := s.asked[target]; got != 1 {
			t.Errorf("%s: asked %d times, want 1", target, got)
		}
	}
	if got := s.bodies["value"]; got != 100 || len(s.asked) != 100 {
		t.Errorf("got %d targets and %d bodies as given, want 100 of each", len(s.asked), got)
	}
}

func TestOperationsAndLevelsAreWhatServersAreAsked(t *testing.T) {
	for _, test := range []struct {
		op          Op
		read, write string
		want        string
	}{
		{Put, "1", "", "PUT /x000000000"},
		{Put, "", "3", "PUT /x000000000?w=3"},
		{Get, "all", "1", "GET /x000000000?r=all"},
		{Delete, "1", "one", "DELETE /x000000000?w=one"},
	} {
		s := newServer(t, created)
		start(t, Config{
			Servers: []string{s.URL}, Format: Snakes(test.read, test.write), Op: test.op, Prefix: "x", Connections: 1, Requests: 1,
		}).Wait()
		if s.asked[test.want] != 1 {
			t.Errorf("%v: got %v, want %s", test.op, s.asked, test.want)
		}
	}
}

func TestMixIsMostlyReads(t *testing.T) {
	s := newServer(t, created)
	start(t, Config{Servers: []string{s.URL}, Op: Mix, Keys: Uniform(1), Connections: 4, Requests: 4000}).Wait()
	if puts := s.asked["PUT /000000000"]; puts < 100 || puts > 320 {
		t.Errorf("got %d puts in 4000 requests, want about 200", puts)
	}
}

func TestLatenciesAreThoseOfTheServer(t *testing.T) {
	const slow = 100 * time.Millisecond
	var asked atomic.Int64
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%10 == 0 {
			time.Sleep(slow)
		}
	})
	result := start(t, Config{Servers: []string{s.URL}, Connections: 2, Requests: 200}).Wait()
	if p50 := result.Quantile(0.5); p50 <= 0 || p50 >= slow {
		t.Errorf("p50: got %v, want less than %v", p50, slow)
	}
	if p99 := result.Quantile(0.99); p99 < slow {
		t.Errorf("p99: got %v, want at least %v", p99, slow)
	}
	if result.Throughput() <= 0 || result.Max() < result.Quantile(0.99) {
		t.Errorf("got %v requests a second and a maximum of %v", result.Throughput(), result.Max())
	}
}

func TestQuantilesAreExactToAThousandth(t *testing.T) {
	var all, half Result
	for i := 1; i <= 10_000; i++ {
		into := &all
		if i%2 == 0 {
			into = &half
		}
		into.record(time.Duration(i)*time.Millisecond/10, nil)
	}
	all.Add(half)
	for q, want := range map[float64]time.Duration{
		0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 0.999: 999 * time.Millisecond, 1: time.Second,
	} {
		got := all.Quantile(q)
		if diff := (got - want).Abs(); diff > want/1000+unit {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
	if all.Requests() != 10_000 {
		t.Errorf("got %d requests, want 10000", all.Requests())
	}
}

func TestRefusalsAreCountedByStatusAndAreNoRequests(t *testing.T) {
	var asked atomic.Int64
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) % 4 {
		case 0:
			http.Error(w, "no quorum", http.StatusServiceUnavailable)
		case 1:
			http.NotFound(w, r)
		}
	})
	result := start(t, Config{Servers: []string{s.URL}, Op: Get, Keys: Uniform(3), Connections: 4, Requests: 80}).Wait()
	if result.Requests() != 40 || result.Failed["503"] != 20 || result.Failed["404"] != 20 || len(result.Failed) != 2 {
		t.Errorf("got %d requests, failed %v; want 40, and 20 of 503 and 404 each", result.Requests(), result.Failed)
	}
	if want := "20 x 404, 20 x 503"; result.Reasons() != want {
		t.Errorf("reasons: got %q, want %q", result.Reasons(), want)
	}
	if !strings.HasPrefix(result.Example, "404: 404 page not found") && !strings.HasPrefix(result.Example, "503: no quorum") {
		t.Errorf("example: got %q, want what a server said", result.Example)
	}
}

func TestWithRetryEveryKeySucceedsInTheEnd(t *testing.T) {
	var asked atomic.Int64
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%3 == 0 {
			http.Error(w, "not now", http.StatusServiceUnavailable)
		}
	})
	result := start(t, Config{Servers: []string{s.URL}, Connections: 4, Requests: 50, Retry: true}).Wait()
	if failed := result.Failed["503"]; result.Requests() != 50 || failed < 20 || len(s.asked) != 50 {
		t.Errorf("got %d requests for %d keys, failed %v; want 50 of each and about 24 of 503", result.Requests(), len(s.asked), result.Failed)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var opened atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(created))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	start(t, Config{Servers: []string{s.URL}, Connections: 3, Requests: 300}).Wait()
	if got := opened.Load(); got != 3 {
		t.Errorf("got %d connections for 300 requests, want 3", got)
	}
}

func TestAServerThatSaysCloseIsConnectedAnew(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	result := start(t, Config{Servers: []string{s.URL}, Connections: 2, Requests: 20}).Wait()
	if result.Requests() != 20 || result.Failures() != 0 {
		t.Errorf("got %d requests, failed %v; want 20, none", result.Requests(), result.Failed)
	}
}

func TestADeadServerCostsOneFailureForEachConnection(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	s := newServer(t, created)
	result := start(t, Config{Servers: []string{dead.URL, s.URL}, Connections: 4, Requests: 100}).Wait()
	if result.Failed["connection"] != 2 || result.Requests() != 98 {
		t.Errorf("got %d requests, failed %v; want 98 and 2 connections", result.Requests(), result.Failed)
	}
}

func TestASilentServerIsATimeout(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // it accepts nobody: the kernel does
	result := start(t, Config{
		Servers: []string{"http://" + silent.Addr().String()}, Connections: 1, Requests: 2, Timeout: 20 * time.Millisecond,
	}).Wait()
	if result.Failed["timeout"] != 2 {
		t.Errorf("failed: got %v, want 2 timeouts", result.Failed)
	}
}

func TestStopDoesNotWaitForAnswersNorCountThem(t *testing.T) {
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	s := newServer(t, func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	defer close(release)
	l := start(t, Config{Servers: []string{s.URL}, Connections: 2})
	<-arrived
	if result := l.Stop(); result.Requests() != 0 || result.Failures() != 0 {
		t.Errorf("got %d requests, failed %v; want none", result.Requests(), result.Failed)
	}
}

func TestCancelEndsALoad(t *testing.T) {
	s := newServer(t, created)
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Start(ctx, Config{Servers: []string{s.URL}, Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if result := l.Wait(); result.Failures() != 0 {
		t.Errorf("failed: got %v, want none", result.Failed)
	}
}

func TestWindowsAddUpToTheWhole(t *testing.T) {
	s := newServer(t, created)
	l := start(t, Config{Servers: []string{s.URL}, Connections: 2, Requests: 500})
	var sum Result
	for l.Done() < 500 {
		sum.Add(l.Cut())
	}
	sum.Add(l.Wait())
	if sum.Requests() != 500 {
		t.Errorf("got %d requests in all windows, want 500", sum.Requests())
	}
	if rest := l.Cut(); rest.Requests() != 0 || rest.Quantile(0.5) != 0 {
		t.Errorf("after the end: got %d requests", rest.Requests())
	}
}

func TestRateIsKept(t *testing.T) {
	s := newServer(t, created)
	l := start(t, Config{Servers: []string{s.URL}, Connections: 4, Rate: 500, Requests: 100})
	begun := time.Now()
	l.Wait()
	if took := time.Since(begun); took < 190*time.Millisecond {
		t.Errorf("100 requests at 500 a second took %v, want about 200ms", took)
	}
}

// A server that stalls once makes all requests late that were due meanwhile, not only the one that it was asked.
func TestWithARateAStallIsMetByAllThatWereDue(t *testing.T) {
	const stall = 200 * time.Millisecond
	for rate, least := range map[float64]uint64{0: 1, 500: 40} {
		var once sync.Once
		s := newServer(t, func(http.ResponseWriter, *http.Request) { once.Do(func() { time.Sleep(stall) }) })
		result := start(t, Config{Servers: []string{s.URL}, Connections: 1, Rate: rate, Requests: 200}).Wait()
		late := uint64(0)
		for i := 1; i <= 200; i++ {
			if result.Quantile(float64(i)/200) > stall/2 {
				late++
			}
		}
		if late < least || rate == 0 && late > 20 {
			t.Errorf("rate %v: %d of 200 requests were late, want %d or a little more", rate, late, least)
		}
	}
}

func TestHTTPSAndABasePathAreTaken(t *testing.T) {
	s := newServer(t, created)
	start(t, Config{Servers: []string{s.URL + "/base/"}, Connections: 1, Requests: 1}).Wait()
	if s.asked["PUT /base/000000000"] != 1 {
		t.Errorf("got %v, want the base path first", s.asked)
	}
	secure := httptest.NewUnstartedServer(nil)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	result := start(t, Config{Servers: []string{secure.URL}, Connections: 1, Requests: 1}).Wait()
	if !strings.Contains(result.Example, "certificate") {
		t.Errorf("a certificate that nobody vouches for: got %q", result.Example)
	}
}

func TestConfigThatMakesNoSenseIsRefusedWithAllProblems(t *testing.T) {
	_, err := Start(t.Context(), Config{Servers: []string{"ftp://a"}, Rate: -1, Timeout: -1, Prefix: "a-b"})
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{`"ftp://a"`, "0 connections", "rate", "timeout", `"a-b"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %s in it", err, want)
		}
	}
	if _, err := Start(t.Context(), Config{Connections: 1}); err == nil || !strings.Contains(err.Error(), "no server") {
		t.Errorf("without servers: got %v", err)
	}
}

func TestKeysStayWithinTheirNumber(t *testing.T) {
	for name, keys := range map[string]Keys{"uniform": Uniform(10), "zipf": Zipf(10)} {
		next := keys(rand.New(rand.NewPCG(1, 1)))
		var counts [10]int
		for range 10_000 {
			counts[next()]++
		}
		if name == "zipf" && counts[0] < 2*counts[1]*8/10 || name == "uniform" && (counts[0] < 800 || counts[0] > 1200) {
			t.Errorf("%s: got %v", name, counts)
		}
	}
}

func TestRequestIsPatchedWithItsKeyOnly(t *testing.T) {
	server, err := url.Parse("http://host:1/0000000000")
	if err != nil {
		t.Fatal(err)
	}
	q := newRequest(server, Snakes("", "1")(Put, KeyName("p0", 0), []byte("000000000")), "p0", "t")
	putDigits(q.digits, 123)
	want := "PUT /0000000000/p0000000123?w=1 HTTP/1.1\r\nHost: host:1\r\nAuthorization: Bearer t\r\nContent-Type: application/octet-stream\r\n" +
		"Content-Length: 9\r\n\r\n000000000"
	if string(q.bytes) != want {
		t.Errorf("got %q, want %q", q.bytes, want)
	}
}

func BenchmarkGet(b *testing.B) {
	if os.Getenv("LOAD_SERVER") != "" {
		benchmarkGet(b, os.Getenv("LOAD_SERVER"))
		return
	}
	s := httptest.NewServer(http.HandlerFunc(created))
	defer s.Close()
	benchmarkGet(b, s.URL)
}

func benchmarkGet(b *testing.B, server string) {
	b.ReportAllocs()
	l, err := Start(b.Context(), Config{Servers: []string{server}, Op: Get, Keys: Uniform(1000), Connections: 64, Requests: uint64(b.N)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(l.Wait().Throughput(), "requests/s")
}
