package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/protocol7/snakes/replication"
)

// startBehind serves config behind a door until the end of the test.
func startBehind(t *testing.T, d *door, config apiConfig) *testNode {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(newAPI(config), config.Log)
	served := make(chan error, 1)
	closed := make(chan struct{})
	l := listener{Listener: tcp, door: d, closed: closed, close: func() { close(closed) }}
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("server: %v", err)
		}
		goleak.VerifyNone(t, ignore)
		if open, _, _ := d.stats(); open != 0 {
			t.Errorf("%d connections are still counted", open)
		}
	})
	return &testNode{t: t, address: tcp.Addr().String(), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

func awaitOpen(t *testing.T, d *door, want int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		open, _, _ := d.stats()
		if open == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are in, want %d", open, want)
		}
	}
}

func TestConnectionsThatKeepTheNodeWaitingMakeWay(t *testing.T) {
	config, _ := fakes()
	for name, first := range map[string]string{
		"slow headers": "GET /foo HTTP/1.1\r\nHost:",
		"slow bodies":  "PUT /foo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx",
		"idle":         "GET /foo HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(doorConfig{Connections: 8, Spare: 2})
			n := startBehind(t, d, config)
			var slow []*rawConn
			for i := range d.Connections {
				c := n.dial()
				c.send(first)
				if name == "idle" {
					c.answer("GET")
				}
				slow = append(slow, c)
				awaitOpen(t, d, i+1)
			}
			for deadline := time.Now().Add(20 * time.Second); ; {
				a := n.ask("GET", "/foo", "")
				if a.StatusCode == 200 {
					break
				}
				if a.code(t) != "overloaded" || time.Now().After(deadline) { // which it may be while they are not slow yet
					t.Fatalf("got %d %s beside them, want 200", a.StatusCode, a.text)
				}
			}
			closed := 0
			for _, c := range slow {
				_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				if _, err := c.reader.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
					closed++
				}
			}
			if _, turnedOut, _ := d.stats(); closed == 0 || closed == len(slow) || turnedOut < uint64(closed) {
				t.Errorf("%d of %d are closed, %d are counted; want some", closed, len(slow), turnedOut)
			}
		})
	}
}

// A connection whose client takes nothing of its answer is one that keeps the node waiting.
func TestConnectionsThatTakeNoAnswerMakeWay(t *testing.T) {
	config, coordinator := fakes()
	get := coordinator.get
	coordinator.get = func(key string, level replication.Level) (replication.Record, replication.Receipt, error) {
		record, receipt, err := get("foo", level)
		if key == "large" { // more than sockets have room for
			record.Value = make([]byte, 14<<20)
		}
		return record, receipt, err
	}
	d := newDoor(doorConfig{Connections: 8, Spare: 2})
	n := startBehind(t, d, config)
	for i := range d.Connections {
		n.dial().send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
		awaitOpen(t, d, i+1)
	}
	until(t, "others are served", func() bool { return n.ask("GET", "/foo", "").StatusCode == 200 })
	if _, turnedOut, _ := d.stats(); turnedOut == 0 {
		t.Error("nobody made way")
	}
}

func TestConnectionsThatWorkAndThoseOfPeersStay(t *testing.T) {
	config, coordinator := fakes()
	config.Replica = &fakeReplica{buckets: func() []uint64 { return make([]uint64, replication.DigestBuckets) }}
	began, hang := make(chan struct{}), make(chan struct{})
	coordinator.put = func(string, []byte, string, replication.Level) (replication.Receipt, error) {
		began <- struct{}{}
		<-hang
		return replication.Receipt{Version: someVersion(1), N: 1, Acks: 1}, nil
	}
	d := newDoor(doorConfig{Connections: 4, Spare: 2})
	n := startBehind(t, d, config)
	peer := n.dial()
	ask := "POST " + peerPath + "buckets HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + peerHead() + "\r\n"
	peer.send(ask)
	if a := peer.answer("POST"); a.StatusCode != 200 {
		t.Fatalf("peer: got %d %s", a.StatusCode, a.text)
	}
	var working []*rawConn
	for range d.Connections - 1 {
		c := n.dial()
		c.send("PUT /foo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
		<-began
		working = append(working, c)
	}
	time.Sleep(slowAfter * 3 / 2) // from now on they could be taken for slow
	for range 3 {
		a := n.ask("GET", "/foo", "")
		if a.StatusCode != 503 || a.code(t) != "overloaded" || a.Header.Get("Retry-After") == "" || !a.Close {
			t.Errorf("above their number: got %d %s, close %v; want 503 overloaded, and the connection closed", a.StatusCode, a.text, a.Close)
		}
		for _, path := range vitalPaths[:3] {
			if path == "/-/ready" {
				continue // which needs more fakes
			}
			if a := n.ask("GET", path, ""); a.StatusCode != 200 {
				t.Errorf("%s above their number: got %d, want 200", path, a.StatusCode)
			}
		}
		peer.send(ask)
		if a := peer.answer("POST"); a.StatusCode != 200 {
			t.Errorf("peer beside them: got %d", a.StatusCode)
		}
	}
	// What fills the spare places without a word has to leave them again.
	for range 10 {
		n.dial()
	}
	if a := n.ask("GET", "/-/healthy", ""); a.StatusCode != 200 {
		t.Errorf("healthy beside silent ones: got %d, want 200", a.StatusCode)
	}
	close(hang)
	for _, c := range working {
		if a := c.answer("PUT"); a.StatusCode != 201 {
			t.Errorf("a request that was under way: got %d, want 201", a.StatusCode)
		}
	}
}

// peerHead returns the headers by which node B asks node A.
func peerHead() string {
	return fmt.Sprintf("%s: %s\r\n%s: %s\r\n%s: %s\r\n%s: c1\r\n%s: 127.0.0.1:9001\r\n%s: b\r\n",
		headerProtocol, protocol, headerFrom, idB, headerTo, idA, headerCluster, headerAddress, headerOrigin)
}

func TestWhoReadsNothingIsCutOffAndASlowReaderIsNot(t *testing.T) {
	for _, row := range []struct {
		name  string
		pause time.Duration
		reads int
		whole bool
	}{
		{"slow", readerTime - readerRenew - time.Second, 10, true},
		{"stops", 0, 3, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				in, _ := newDoor(doorConfig{Connections: 1}).tryEnter(here)
				defer in.Close()
				defer there.Close()
				go func() {
					for range row.reads {
						time.Sleep(row.pause)
						if _, err := io.CopyN(io.Discard, there, readerPiece); err != nil {
							return
						}
					}
				}()
				value := []byte(strings.Repeat("x", 10*readerPiece))
				began := time.Now()
				n, err := in.Write(value)
				if row.whole && (n != len(value) || err != nil) {
					t.Errorf("got %d bytes and %v, want all of %d", n, err, len(value))
				}
				if !row.whole && (n != row.reads*readerPiece || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > readerTime) {
					t.Errorf("got %d bytes and %v after %v, want it cut off after %v", n, err, time.Since(began), readerTime)
				}
			})
		})
	}
}

func TestOneCanLimitWritesOneself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		in, _ := newDoor(doorConfig{Connections: 1}).tryEnter(here)
		defer in.Close()
		defer there.Close()
		write := func() time.Duration {
			began := time.Now()
			if _, err := in.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want the deadline exceeded", err)
			}
			return time.Since(began)
		}
		if err := in.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if got := write(); got != time.Second {
			t.Errorf("own limit: ended after %v, want 1 s", got)
		}
		if err := in.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if got := write(); got != readerTime {
			t.Errorf("without one: ended after %v, want %v", got, readerTime)
		}
	})
}

func TestConnectionsLeaveRoomForFiles(t *testing.T) {
	for _, files := range []int{256, 1024, 4096, 1 << 20} {
		c := doorFor(files)
		if taken := c.Connections + c.Spare + c.Unclaimed; taken > files*3/4 || c.Connections < files/4 && c.Connections < maxConnections {
			t.Errorf("%d files: %+v is %d connections, want more than a third and at most three quarters", files, c, taken)
		}
	}
	if got := doorFor(1 << 30); got.Connections != maxConnections || got.Unclaimed != maxUnclaimed {
		t.Errorf("without a limit: got %+v", got)
	}
}

// TestClientsAreAnsweredWhileANodeStops: a request holds up the end, and clients come on new connections.
func TestClientsAreAnsweredWhileANodeStops(t *testing.T) {
	n := run(t, Config{DrainTimeout: 4 * time.Second})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string, error) {
		resp, err := client.Get("http://" + n.Address() + path)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	conn, err := net.Dial("tcp", n.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PUT /foo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // from now on the node waits for the body
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		n.stop(t)()
		close(ended)
	}()
	stopping, cut := 0, 0
	for {
		status, body, err := get("/bar")
		switch {
		case status == 404 && stopping == 0: // it has not heard yet
		case status == 503 && strings.Contains(body, "urn:snakes:error:not-ready"):
			if stopping++; stopping == 20 {
				if status, _, err := get("/-/healthy"); status != 200 {
					t.Errorf("healthy: got %d, %v; want 200", status, err)
				}
				if _, err := io.WriteString(conn, "123456789"); err != nil {
					t.Errorf("the request under way: %v", err)
				}
			}
		case errors.Is(err, syscall.ECONNREFUSED):
			<-ended
			if stopping < 20 {
				t.Errorf("%d clients were told that the node stops, want 20", stopping)
			}
			return
		case err != nil && cut == 0: // the one on its way when the port closes
			cut++
		default:
			t.Fatalf("got %d %q, %v; want 503 not-ready until the port is closed", status, body, err)
		}
	}
}
