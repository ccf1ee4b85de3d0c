package test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/protocol7/snakes/node/client/load"
	"github.com/protocol7/snakes/test/cluster"
)

// siegeTime is how long each part of the stories here takes that measure something. What they measure they print; it decides nothing.
var siegeTime = flag.Duration("siege", time.Second, "how long each measurement under siege takes; for figures, on a quiet machine: 15s, with -v")

// residentMiB returns how much memory the process of a node has.
func residentMiB(t testing.TB, n *cluster.Node) int {
	t.Helper()
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindStringSubmatch(read(t, fmt.Sprintf("/proc/%d/status", n.PID())))
	if m == nil {
		t.Fatal("the process has no VmRSS")
	}
	kib, err := strconv.Atoi(m[1])
	must(t, err)
	return kib >> 10
}

// openFiles returns how many files and connections the process of a node has open.
func openFiles(t testing.TB, n *cluster.Node) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.PID()))
	must(t, err)
	return len(entries)
}

// processorTime returns how long processors have worked for the process of a node.
func processorTime(t testing.TB, n *cluster.Node) time.Duration {
	t.Helper()
	text := read(t, fmt.Sprintf("/proc/%d/stat", n.PID()))
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	user, err := strconv.Atoi(fields[11])
	must(t, err)
	system, err := strconv.Atoi(fields[12])
	must(t, err)
	return time.Duration(user+system) * 10 * time.Millisecond // a hundred ticks a second, on all Linux that Go runs on
}

// slowClients hold connections to a node: each sends first, and then a byte a second. One that is cut off comes again. The rest they leave to
// others: they read nothing.
type slowClients struct {
	stop    chan struct{}
	running sync.WaitGroup
}

func startSlow(n *cluster.Node, count int, first func(i int) string) *slowClients {
	s := &slowClients{stop: make(chan struct{})}
	for i := range count {
		s.running.Go(func() {
			for {
				s.hold(n, first(i))
				select {
				case <-s.stop:
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
	return s
}

func (s *slowClients) hold(n *cluster.Node, first string) {
	conn, err := net.Dial("tcp", n.Addr())
	if err != nil {
		return // the node takes no more for now
	}
	defer conn.Close()
	pace := time.NewTicker(time.Second)
	defer pace.Stop()
	_, err = io.WriteString(conn, first)
	for err == nil {
		select {
		case <-s.stop:
			return
		case <-pace.C:
		}
		_, err = io.WriteString(conn, "x")
	}
}

func (s *slowClients) end() {
	close(s.stop)
	s.running.Wait()
}

// slowly returns what slow clients begin with: half of them are slow with headers, the others with bodies.
func slowly(i int) string {
	if i%2 == 0 {
		return "GET /foo HTTP/1.1\r\nHost: localhost\r\nX-Long: "
	}
	return fmt.Sprintf("PUT /slow%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx", i)
}

// ordinary measures reads and writes of ordinary clients for a while; all have to succeed.
func ordinary(t testing.TB, n *cluster.Node, connections int, d time.Duration) load.Result {
	t.Helper()
	drive := func(cfg load.Config) load.Result {
		cfg.Servers, cfg.Prefix, cfg.Value, cfg.Connections = []string{"http://" + n.Addr()}, "ordinary", load.Value(256), connections
		l, err := load.Start(t.Context(), cfg)
		must(t, err)
		if cfg.Requests > 0 {
			return l.Wait()
		}
		select {
		case <-time.After(d):
		case <-l.Ended():
		}
		return l.Stop()
	}
	const keys = 1000
	stored := drive(load.Config{Op: load.Put, Requests: keys})
	result := drive(load.Config{Op: load.Mix, Keys: load.Uniform(keys)})
	for _, r := range []load.Result{stored, result} {
		if r.Failures() > 0 || r.Requests() == 0 {
			t.Errorf("ordinary clients: %d succeeded, failed: %s (%s); want none to fail", r.Requests(), r.Reasons(), r.Example)
		}
	}
	return result
}

// TestThousandsOfSlowConnectionsLeaveOrdinaryClientsAlone also prints what they cost:
//
//	go test ./test -run ThousandsOfSlow -v -siege 15s
func TestThousandsOfSlowConnectionsLeaveOrdinaryClientsAlone(t *testing.T) {
	const slow = 2000
	c := cluster.Start(t, 1)
	n := c.Node(0)
	quiet := ordinary(t, n, 16, *siegeTime)
	memory, files := residentMiB(t, n), openFiles(t, n)

	siege := startSlow(n, slow, slowly)
	besieged := func() error {
		if open := openFiles(t, n); open < files+slow*9/10 {
			return fmt.Errorf("%d files and connections are open", open)
		}
		return nil
	}
	c.Await(60*time.Second, "2,000 slow connections", besieged)
	during := ordinary(t, n, 16, max(*siegeTime, 2*time.Second))
	besiegedMemory, besiegedFiles := residentMiB(t, n), openFiles(t, n)
	most := 256
	if cluster.Raced() {
		most *= 4
	}
	if grown := besiegedMemory - memory; grown > most {
		t.Errorf("2,000 slow connections take %d MiB, want at most %d", grown, most)
	}
	if besiegedFiles > files+slow+200 {
		t.Errorf("%d files and connections are open, %d before, want one for each of 2,000 clients", besiegedFiles, files)
	}
	for _, path := range []string{"/-/healthy", "/-/members", "/-/ready"} {
		must(t, n.Do(http.MethodGet, path, "").Expect(200))
	}
	siege.end()
	c.Await(30*time.Second, "the connections to be gone", func() error {
		if open := openFiles(t, n); open > files+50 {
			return fmt.Errorf("%d files and connections are open, %d before", open, files)
		}
		return nil
	})
	after := ordinary(t, n, 16, *siegeTime)
	for _, row := range []struct {
		when          string
		r             load.Result
		memory, files int
	}{
		{"quiet", quiet, memory, files},
		{"with 2,000 slow connections", during, besiegedMemory, besiegedFiles},
		{"afterwards", after, residentMiB(t, n), openFiles(t, n)},
	} {
		t.Logf("%-28s %6.0f/s  median %-9v p99 %-9v %4d MiB %5d files", row.when, row.r.Throughput(), row.r.Quantile(0.5), row.r.Quantile(0.99), row.memory, row.files)
	}
}

// A node that may have few files open gives more than half of them to clients at most, so that it can open its own.
func TestConnectionsLeaveANodeItsFiles(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "snakes")
	// The soft limit is for programs that cannot cope with more; the node may have as many as the hard one.
	script := fmt.Sprintf("#!/bin/sh\nulimit -Sn 64 && ulimit -Hn 256 && exec %s \"$@\"\n", cluster.Binary(t))
	must(t, os.WriteFile(program, []byte(script), 0o700))
	c := cluster.New(t, cluster.Options{Nodes: 2, Binary: program})
	c.Start()
	n := c.Node(0)
	if limits := read(t, fmt.Sprintf("/proc/%d/limits", n.PID())); !regexp.MustCompile(`Max open files +25[56] +256 `).MatchString(limits) {
		t.Errorf("limits of the node:\n%s\nwant 256 files, the hard limit", limits)
	}
	siege := startSlow(n, 600, slowly)
	defer siege.end()
	c.Await(30*time.Second, "the node to have as many connections as it takes", func() error {
		if open := openFiles(t, n); open < 140 {
			return fmt.Errorf("%d files and connections are open", open)
		}
		return nil
	})
	for i := range 100 {
		key := fmt.Sprintf("key%d", i)
		c.Await(20*time.Second, "a write", func() error { return n.Put(key+"?w=2", "value").Expect(201) }) // 503 while there is no room
		c.Await(20*time.Second, "a read", func() error { return n.Get(key).Expect(200, "value") })
		must(t, n.Do(http.MethodGet, "/-/healthy", "").Expect(200))
		if open := openFiles(t, n); open > 245 {
			t.Errorf("%d of 256 files and connections are open", open)
		}
	}
	must(t, cluster.CheckMembers(c.Nodes()...))
	c.Await(20*time.Second, "a file for each key", func() error {
		found, err := filepath.Glob(filepath.Join(n.Data, "keys", "*", "key*"))
		if err == nil && len(found) < 100 {
			err = fmt.Errorf("%d files", len(found))
		}
		return err
	})
	if strings.Contains(n.Log(), "too many open files") {
		t.Error("the node ran out of files")
	}
}

// TestABodyWithoutProgressIsCutOff: a byte a second is no progress.
func TestABodyWithoutProgressIsCutOff(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	conn, err := net.Dial("tcp", c.Node(0).Addr())
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, slowly(1))
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(60*time.Second)))
	answered := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(conn) // it may end with a reset: what came before it counts
		answered <- string(text)
	}()
	for {
		select {
		case got := <-answered:
			if !strings.HasPrefix(got, "HTTP/1.1 408 ") || !strings.Contains(got, "urn:snakes:error:timeout") {
				t.Errorf("got %q, want 408 timeout", got)
			}
			return
		case <-time.After(time.Second):
			_, _ = io.WriteString(conn, "x") // that it is cut off the answer tells
		}
	}
}

// TestTwiceWhatANodeCarriesIsSurvived also prints how much of it is served, and how soon all is well after it:
//
//	go test ./test -run TwiceWhat -v -siege 15s
func TestTwiceWhatANodeCarriesIsSurvived(t *testing.T) {
	c := cluster.Start(t, 1)
	n := c.Node(0)
	calm := ordinary(t, n, 8, *siegeTime)
	drive := func(op load.Op, connections int, rate float64, d time.Duration) (load.Result, time.Duration) {
		before := processorTime(t, n)
		l, err := load.Start(t.Context(), load.Config{
			Servers: []string{"http://" + n.Addr()}, Op: op, Prefix: "ordinary", Keys: load.Uniform(1000), Value: load.Value(256),
			Connections: connections, Rate: rate, Timeout: 10 * time.Second,
		})
		must(t, err)
		time.Sleep(d)
		r := l.Stop()
		return r, (processorTime(t, n) - before) / time.Duration(max(1, r.Requests()))
	}
	for _, op := range []load.Op{load.Put, load.Get} {
		peak, peakCost := drive(op, 128, 0, *siegeTime)
		twice, twiceCost := drive(op, 3000, 2*peak.Throughput(), 2**siegeTime)
		ended := time.Now()
		must(t, n.Do(http.MethodGet, "/-/healthy", "").Expect(200))
		var well time.Duration
		c.Await(60*time.Second, "no failure, and soon ordinary latency", func() error {
			r, _ := drive(op, 8, 0, 250*time.Millisecond)
			if r.Failures() > 0 || r.Requests() == 0 {
				return errors.New(r.Example)
			}
			// How long it takes to be fast again is told, not judged; that requests fail no more is.
			if limit := max(4*calm.Quantile(0.99), 50*time.Millisecond); r.Quantile(0.99) > limit && time.Since(ended) < 20*time.Second {
				return fmt.Errorf("p99 is %v", r.Quantile(0.99))
			}
			well = time.Since(ended)
			return nil
		})
		if peak.Requests() == 0 || twice.Requests() == 0 {
			t.Errorf("%v: %d requests succeeded at the peak, %d with twice the load", op, peak.Requests(), twice.Requests())
		}
		for reason := range twice.Failed {
			if reason != "503" {
				t.Errorf("%v: failed with twice the load: %s; want 503 alone (%s)", op, twice.Reasons(), twice.Example)
			}
		}
		t.Logf("%-4v peak %6.0f/s (%v of processor time each); due at twice that, over 3,000 connections: %6.0f/s served (%.0f %%, %v each), median %v, p99 %v, failed: %q; calm again within %v",
			op, peak.Throughput(), peakCost, twice.Throughput(), 100*twice.Throughput()/peak.Throughput(), twiceCost, twice.Quantile(0.5), twice.Quantile(0.99), twice.Reasons(), well.Round(10*time.Millisecond))
	}
}
