package node

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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
