package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"testing"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// lone is a cluster of one.
type lone struct{ benchMembers }

// View implements replication.Members.
func (a lone) View() *replication.View {
	self := string(a.benchMembers)
	return &replication.View{
		Self: self, Rosters: [][]string{{self}}, Members: []replication.Member{{ID: self, Name: "a", Live: true, Synced: true}},
	}
}

// BenchmarkListing lists a store on disk over HTTP on loopback, in a cluster of one: the first page of a hundred keys, one from
// the middle, and all pages of a thousand. Allocations are those of both sides; heap-MB is by how much the heap in use was
// larger at the end of a listing than before. A million keys take some minutes to lay, and 8 GB of disk:
//
//	go test ./node -run '^$' -bench Listing -benchtime 20x -keys 1000000 -timeout 1h
func BenchmarkListing(b *testing.B) {
	source := newBenchSource(b, *benchKeys, *benchValue)
	clock := version.NewClock(nil, version.Timestamp{})
	peers := newPeers(peersConfig{Clock: clock, Roster: &fakeNews{stamp: "s1"}})
	b.Cleanup(peers.Close)
	coordinator, err := replication.New(replication.Config{
		Store: source.store, Members: lone{benchMembers(idB)}, Peers: peers, Clock: clock, Origin: 1, Memory: source.memory,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(coordinator.Close)
	config, _ := fakes()
	config.Store, config.Coordinator = source.store, coordinator
	url := "http://" + benchServe(b, newAPI(config), &source.bytes) + "/-/keys"
	b.Cleanup(http.DefaultClient.CloseIdleConnections)

	first := benchPage(b, url+"?limit=1")
	middle := benchRecord(*benchKeys/2, 0, 1).Key
	for name, query := range map[string]string{"FirstPage": "?limit=100", "MiddlePage": "?limit=100&after=" + middle} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if page := benchPage(b, url+query); len(page.Keys) == 0 || name == "FirstPage" && page.Keys[0].Key != first.Keys[0].Key {
					b.Fatalf("got %d keys", len(page.Keys))
				}
			}
		})
	}
	b.Run("AllPages", func(b *testing.B) {
		b.ReportAllocs()
		before := heapInUse()
		for b.Loop() {
			found, after := 0, ""
			for {
				page := benchPage(b, url+"?limit=1000&after="+after)
				found += len(page.Keys)
				if after = page.Next; after == "" {
					break
				}
			}
			if found != *benchKeys {
				b.Fatalf("got %d keys, want %d", found, *benchKeys)
			}
		}
		b.ReportMetric(float64(heapInUse()-before)/1e6, "heap-MB")
		b.ReportMetric(float64(*benchKeys*b.N)/b.Elapsed().Seconds(), "keys/s")
	})
}

// heapInUse is what is in use after a collection.
func heapInUse() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapInuse)
}

func benchPage(b *testing.B, url string) (page listAnswer) {
	b.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&page); err != nil || response.StatusCode != http.StatusOK {
		b.Fatal(fmt.Errorf("%s: %s: %w", url, response.Status, err))
	}
	return page
}
