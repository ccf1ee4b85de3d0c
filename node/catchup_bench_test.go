package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// What catching up costs, between two stores on disk over HTTP on loopback, both in this process. A million keys take some
// minutes and 8 GB of disk:
//
//	go test ./node -run '^$' -bench CatchUp -benchtime 1x -keys 1000000 -timeout 1h
var (
	benchKeys  = flag.Int("keys", 10_000, "benchmarks of catch-up: how many keys there are")
	benchValue = flag.Int("value", 256, "benchmarks of catch-up: how large values are, in bytes")
)

// BenchmarkCatchUp follows one node: it has nothing, then it has all, then it misses the last versions of some keys. What
// it takes to notice that something is missing is not in it.
func BenchmarkCatchUp(b *testing.B) {
	source := newBenchSource(b, *benchKeys, *benchValue)
	asker := benchBlank(b, source, *benchKeys, *benchValue)
	if asker == nil {
		return // the sub-benchmarks asked for do without it
	}
	written := uint64(*benchKeys)
	for _, missed := range []int{10, 1000, 100_000} {
		if missed > *benchKeys {
			continue
		}
		b.Run(fmt.Sprintf("Missed%dOf%d", missed, *benchKeys), func(b *testing.B) {
			var bytes, writes int64
			for b.Loop() {
				b.StopTimer()
				written = source.overwrite(b, missed, written)
				before := source.bytes.Load()
				b.StartTimer()
				asker.catchUp(b, source)
				bytes += source.bytes.Load() - before
				writes += int64(missed)
			}
			b.ReportMetric(float64(bytes)/float64(writes), "bytes/write")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(writes), "µs/write")
		})
	}
	benchIdle(b, source, asker, *benchKeys)
}

// BenchmarkCatchUpFewKeys is what a node with 1,000 keys exchanges when nothing happens.
func BenchmarkCatchUpFewKeys(b *testing.B) {
	source, asker := newBenchSource(b, 1000, *benchValue), newBenchNode(b, idA, b.TempDir())
	asker.sync(b, source)
	asker.catchUp(b, source)
	benchIdle(b, source, asker, 1000)
}

// BenchmarkCatchUpLargeValues is a node that has nothing, with values that are 64 times as large and fewer keys.
func BenchmarkCatchUpLargeValues(b *testing.B) {
	keys, size := *benchKeys/16, *benchValue*64
	benchBlank(b, newBenchSource(b, keys, size), keys, size)
}

// benchIdle is one exchange of two nodes that have the same.
func benchIdle(b *testing.B, source, asker *benchNode, keys int) {
	b.Run(fmt.Sprintf("Idle%dKeys", keys), func(b *testing.B) {
		heard := make(chan struct{})
		asker.exchange(b, source, time.Millisecond, func() { heard <- struct{}{} })
		<-heard // the first one connects, and asks for more than the others
		before, exchanges := source.bytes.Load(), 0
		for b.Loop() {
			<-heard
			exchanges++
		}
		b.ReportMetric(float64(source.bytes.Load()-before)/float64(exchanges), "bytes/exchange")
		b.ReportMetric(0, "ns/op") // the pace is chosen here
	})
}

// benchBlank is a node that has nothing. It returns the last one that caught up, nil if none did.
func benchBlank(b *testing.B, source *benchNode, keys, size int) (asker *benchNode) {
	outer := b
	b.Run(fmt.Sprintf("Blank%dKeysOf%dBytes", keys, size), func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			asker = newBenchNode(outer, idA, outer.TempDir())
			asker.sync(outer, source)
			b.StartTimer()
			asker.catchUp(b, source)
		}
		reportRate(b, keys, size)
	})
	return asker
}

func reportRate(b *testing.B, keys, size int) {
	rounds := float64(b.N)
	b.ReportMetric(rounds*float64(keys)/b.Elapsed().Seconds(), "keys/s")
	b.ReportMetric(rounds*float64(keys*size)/1e6/b.Elapsed().Seconds(), "MB/s")
}

// BenchmarkCatchUpCopy is what cp -r and sync take for the files that a blank node would fetch, for comparison.
func BenchmarkCatchUpCopy(b *testing.B) {
	for _, layout := range []struct{ keys, value int }{{*benchKeys, *benchValue}, {*benchKeys / 16, *benchValue * 64}} {
		b.Run(fmt.Sprintf("%dKeysOf%dBytes", layout.keys, layout.value), func(b *testing.B) {
			dir := b.TempDir()
			layRecords(b, dir, layout.keys, layout.value)
			benchCommand(b, "sync", "-f", dir)
			copies := func(after func(b *testing.B, to string)) func(b *testing.B) {
				return func(b *testing.B) {
					for b.Loop() {
						b.StopTimer()
						to := b.TempDir()
						b.StartTimer()
						benchCommand(b, "cp", "-r", filepath.Join(dir, "keys"), to)
						after(b, to)
					}
					reportRate(b, layout.keys, layout.value)
				}
			}
			b.Run("cp", copies(func(*testing.B, string) {}))
			b.Run("cpAndSync", copies(func(b *testing.B, to string) { benchCommand(b, "sync", "-f", to) }))
		})
	}
}

// benchNode is what a node has for catching up: a store on disk and both sides of the traffic.
type benchNode struct {
	id      string
	store   *disk.Store
	memory  *replication.Memory
	replica *replication.Replica
	peers   *peers
	syncer  *replication.Syncer
	address string
	bytes   atomic.Int64 // that its server has received and sent, on all connections
}

// newBenchSource returns a node that has so many keys.
func newBenchSource(b *testing.B, keys, size int) *benchNode {
	b.Helper()
	dir := b.TempDir()
	layRecords(b, dir, keys, size)
	benchCommand(b, "sync", "-f", dir)
	return newBenchNode(b, idB, dir)
}

func newBenchNode(b *testing.B, id, dir string) *benchNode {
	b.Helper()
	store, err := disk.Open(disk.Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() }) // what it holds is thrown away
	clock := version.NewClock(nil, version.Timestamp{})
	memory, err := replication.OpenMemory(store, nil)
	if err != nil {
		b.Fatal(err)
	}
	n := &benchNode{id: id, store: store, memory: memory, replica: replication.NewReplica(store, memory, clock, 1, nil)}
	offers, err := replication.NewOffers(replication.OffersConfig{Store: store, Members: benchMembers(id)})
	if err != nil {
		b.Fatal(err)
	}
	config, _ := fakes()
	config.Roster.(*fakeRoster).merge = func([]byte) error { return nil }
	config.Self, config.Store, config.Replica, config.Offers, config.Clock = id, store, n.replica, offers, clock
	n.address = benchServe(b, newAPI(config), &n.bytes)
	return n
}

// benchServe serves handler until the end of b, counts what is received and sent, and returns the address.
func benchServe(b *testing.B, handler http.Handler, bytes *atomic.Int64) (address string) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := newServer(handler, nil)
	go func() {
		if err := server.Serve(countingListener{listener, bytes}); !errors.Is(err, http.ErrServerClosed) {
			b.Error(err)
		}
	}()
	b.Cleanup(func() { _ = server.Close() }) // clients have their answers
	return listener.Addr().String()
}

// ask makes n reach source.
func (n *benchNode) ask(b *testing.B, source *benchNode) {
	n.peers = newPeers(peersConfig{
		Hello: func() membership.Hello {
			return membership.Hello{ID: n.id, ClusterID: "c1", Address: n.address, Origin: 1}
		},
		Addresses: func(string) (string, bool) { return source.address, true },
		Roster:    &fakeNews{stamp: "s1"},
		Clock:     version.NewClock(nil, version.Timestamp{}),
	})
	b.Cleanup(n.peers.Close)
}

// exchange runs a monitor of source in n until the end of b, and calls heard after each exchange.
func (n *benchNode) exchange(b *testing.B, source *benchNode, pace time.Duration, heard func()) {
	b.Helper()
	n.ask(b, source)
	ctx, stop := context.WithCancel(context.Background())
	monitor, err := replication.NewMonitor(replication.MonitorConfig{
		Replica: n.replica, Members: benchMembers(n.id), Peers: n.peers, Memory: n.memory, Interval: pace,
		Heard: func(string, *seen.Set) {
			if ctx.Err() == nil {
				heard()
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	n.runs(b, ctx, stop, monitor.Run)
}

// sync runs a syncer in n until the end of b. It does nothing before catchUp.
func (n *benchNode) sync(b *testing.B, source *benchNode) {
	b.Helper()
	n.ask(b, source)
	var err error
	n.syncer, err = replication.NewSyncer(replication.SyncConfig{
		Replica: n.replica, Members: benchMembers(n.id), Peers: n.peers, Memory: n.memory, Grace: 1,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.runs(b, ctx, stop, n.syncer.Run)
}

// runs calls run until the end of b.
func (n *benchNode) runs(b *testing.B, ctx context.Context, stop func(), run func(context.Context)) {
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	b.Cleanup(func() { stop(); running.Wait() })
}

// catchUp tells n what source has seen, and returns when n has all of it.
func (n *benchNode) catchUp(b *testing.B, source *benchNode) {
	b.Helper()
	n.syncer.Heard(source.id, source.store.Seen())
	for n.store.SeenHash() != source.store.SeenHash() {
		time.Sleep(50 * time.Microsecond) // between two looks
	}
	if got, want := n.store.Digest(), source.store.Digest(); got != want {
		b.Fatalf("digest %x, want %x", got, want)
	}
}

// overwrite gives some of the source's keys, far apart, new values, after that many writes. It returns how many there
// were then.
func (n *benchNode) overwrite(b *testing.B, some int, after uint64) uint64 {
	b.Helper()
	records := make([]replication.Record, some)
	for i := range records {
		after++
		records[i] = benchRecord(i*(*benchKeys/some), *benchValue, after)
	}
	for _, outcome := range n.store.Apply(records) {
		if outcome.Err != nil {
			b.Fatal(outcome.Err)
		}
	}
	return after
}

// benchMembers is a cluster of A and B as one of them sees it.
type benchMembers string

func (m benchMembers) View() *replication.View {
	return &replication.View{Self: string(m), Rosters: [][]string{{idA, idB}}, Members: []replication.Member{
		{ID: idA, Name: "a", Live: true, Synced: true}, {ID: idB, Name: "b", Live: true, Synced: true},
	}}
}

func (benchMembers) Failed(string, time.Time, error) {}
func (benchMembers) Answered(string)                 {}
func (benchMembers) Enroll(string) error             { return nil }

// benchRecord returns the record of the i-th key that is made by the given write.
func benchRecord(i, size int, write uint64) replication.Record {
	v := version.Version{
		Timestamp: version.Timestamp{Wall: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).UnixNano() + int64(write)},
		Dot:       version.Dot{Origin: 0xabc, Counter: write},
	}
	return replication.Record{
		Key: fmt.Sprintf("key%09d", i), Version: v, ContentType: "text/plain", Value: bytes.Repeat([]byte("v"), size),
	}
}

// layRecords makes dir a data directory with that many keys. It writes the files as package disk describes them, but
// syncs none: a million of them through a store would take longer than what is to be measured.
func layRecords(b *testing.B, dir string, keys, size int) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(dir, "format"), []byte(disk.Format+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, "keys", fmt.Sprintf("%02x", i)), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	const writers = 4
	var running sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		running.Go(func() {
			for i := w; i < keys; i += writers {
				if err := layRecord(dir, benchRecord(i, size, uint64(i+1))); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	running.Wait()
	close(errs)
	for err := range errs {
		b.Fatal(err)
	}
}

func layRecord(dir string, r replication.Record) error {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	fields := fmt.Appendf(nil, "key=%s version=%s length=%d crc32c=%08x deleted=false type=%q",
		r.Key, r.Version, len(r.Value), crc32.Checksum(r.Value, castagnoli), r.ContentType)
	data := fmt.Appendf(nil, "snakes1 %08x %s\n%s", crc32.Checksum(fields, castagnoli), fields, r.Value)
	hash := sha256.Sum256([]byte(r.Key))
	return os.WriteFile(filepath.Join(dir, "keys", fmt.Sprintf("%x", hash[:1]), r.Key), data, 0o600)
}

// benchCommand runs a command that this machine may lack.
func benchCommand(b *testing.B, name string, args ...string) {
	b.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		b.Skipf("%s: %v\n%s", name, err, out)
	}
}

// countingListener counts the bytes of all its connections.
type countingListener struct {
	net.Listener
	bytes *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{conn, l.bytes}, nil
}

type countingConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

func (c countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}
