package node

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/protocol7/snakes/replication"
)

// newMemory returns a coordinator of a cluster of one that keeps values in memory.
func newMemory() *fakeCoordinator {
	var values sync.Map
	done := replication.Receipt{Version: someVersion(1), Acks: 3, N: 3}
	return &fakeCoordinator{
		put: func(key string, value []byte, contentType string, _ replication.Level) (replication.Receipt, error) {
			values.Store(key, replication.Record{Key: key, Version: done.Version, ContentType: contentType, Value: value})
			return done, nil
		},
		get: func(key string, _ replication.Level) (replication.Record, replication.Receipt, error) {
			record, known := values.Load(key)
			if !known {
				return replication.Record{}, done, replication.ErrNotFound
			}
			return record.(replication.Record), done, nil
		},
	}
}

// sink is an http.ResponseWriter that keeps nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}

// SetReadDeadline costs next to nothing here, as on a connection.
func (s *sink) SetReadDeadline(time.Time) error { return nil }

func benchmarkRequest(b *testing.B, method, target string, body []byte) {
	config, _ := fakes()
	config.Coordinator = newMemory()
	api := newAPI(config)
	reader := bytes.NewReader(body)
	r, err := http.NewRequest(method, target, reader)
	if err != nil {
		b.Fatal(err)
	}
	r.RequestURI = target
	if body != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Content-Length", "256")
	}
	w := &sink{header: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		clear(w.header)
		api.ServeHTTP(w, r)
	}
}

func BenchmarkPut(b *testing.B) { benchmarkRequest(b, "PUT", "/foo", make([]byte, 256)) }

func BenchmarkGet(b *testing.B) {
	for _, target := range []string{"/nope", "/nope?r=1"} {
		b.Run(target, func(b *testing.B) { benchmarkRequest(b, "GET", target, nil) })
	}
	b.Run("found", func(b *testing.B) {
		config, _ := fakes()
		config.Coordinator = newMemory()
		if _, err := config.Coordinator.Put(context.Background(), "foo", make([]byte, 256), "a/b", replication.LevelDefault); err != nil {
			b.Fatal(err)
		}
		api := newAPI(config)
		r, err := http.NewRequest("GET", "/foo", nil)
		if err != nil {
			b.Fatal(err)
		}
		r.RequestURI = "/foo"
		w := &sink{header: make(http.Header)}
		b.ReportAllocs()
		for b.Loop() {
			clear(w.header)
			api.ServeHTTP(w, r)
		}
	})
}

func serveBenchmark(b *testing.B, config apiConfig) (address string) {
	server := httptest.NewUnstartedServer(nil)
	server.Config = newServer(newAPI(config), nil)
	server.Start()
	b.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// BenchmarkPutOverHTTP has 64 clients, on the same machine.
func BenchmarkPutOverHTTP(b *testing.B) {
	config, _ := fakes()
	config.Coordinator = newMemory()
	address := serveBenchmark(b, config)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	value := strings.Repeat("x", 256)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, _ := http.NewRequest("PUT", "http://"+address+"/foo", strings.NewReader(value))
			resp, err := client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

// BenchmarkPeerWrite is what one record costs from node to node, both on the same machine.
func BenchmarkPeerWrite(b *testing.B) {
	config, _ := fakes()
	config.Self = idB
	config.Replica = &fakeReplica{write: func(records []replication.Record) []replication.Outcome {
		outcomes := make([]replication.Outcome, len(records))
		for i := range records {
			outcomes[i].Current = records[i].Meta()
		}
		return outcomes
	}}
	address := serveBenchmark(b, config)
	p := newAsker(func() string { return address }, &fakeNews{stamp: "s1"}, config.Clock)
	defer p.Close()
	records := []replication.Record{{Key: "foo", Version: someVersion(1), ContentType: "text/plain", Value: make([]byte, 256)}}
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := p.Write(b.Context(), idB, records); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkThreeNodes is what a request of a client costs all three nodes together, which run in this process with their
// data on disk. Its own client allocates nothing.
func BenchmarkThreeNodes(b *testing.B) {
	defer http.DefaultClient.CloseIdleConnections()
	first := run(b, Config{Name: "a"})
	nodes := []*running{
		first, run(b, Config{Name: "b", Join: []string{first.Address()}}), run(b, Config{Name: "c", Join: []string{first.Address()}}),
	}
	awaitStates(b, "3: alive alive alive", nodes...)
	const keys = 1000
	for _, work := range []struct {
		name    string
		clients int
		request func(i int) string
	}{
		{"Put/1", 1, func(i int) string { return fmt.Sprintf("PUT /key%d?w=3", i) }},
		{"Put/64", 64, func(i int) string { return fmt.Sprintf("PUT /key%d?w=3", i) }},
		{"Get/1", 1, func(i int) string { return fmt.Sprintf("GET /key%d?r=3", i) }},
		{"Get/64", 64, func(i int) string { return fmt.Sprintf("GET /key%d?r=3", i) }},
	} {
		requests := make([][]byte, keys)
		for i := range requests {
			requests[i] = fmt.Appendf(nil, "%s HTTP/1.1\r\nHost: snakes\r\nContent-Length: 256\r\n\r\n%256d", work.request(i), i)
			if strings.HasPrefix(work.name, "Get") {
				requests[i] = fmt.Appendf(nil, "%s HTTP/1.1\r\nHost: snakes\r\n\r\n", work.request(i))
			}
		}
		b.Run(work.name, func(b *testing.B) {
			var asked atomic.Int64
			var running sync.WaitGroup
			b.ReportAllocs()
			for c := range work.clients {
				client := dialBench(b, nodes[c%len(nodes)].Address())
				running.Go(func() {
					for i := asked.Add(1); i <= int64(b.N); i = asked.Add(1) {
						if err := client.do(requests[i%keys]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			running.Wait()
		})
	}
}

// benchClient sends requests on one connection.
type benchClient struct {
	conn    net.Conn
	answers *bufio.Reader
}

func dialBench(b *testing.B, address string) *benchClient {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return &benchClient{conn, bufio.NewReader(conn)}
}

// do sends a request and reads its answer. An error is that there is none, or that it is one.
func (c *benchClient) do(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	size, ok := 0, false
	for {
		line, err := c.answers.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		ok = ok || bytes.HasPrefix(line, []byte("HTTP/1.1 2"))
		if digits, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			for _, digit := range digits {
				size = 10*size + int(digit-'0')
			}
		}
	}
	if _, err := c.answers.Discard(size); err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%.40q is refused", request)
	}
	return nil
}
