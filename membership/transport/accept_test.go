package transport

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestFirstByteDecidesWhoseConnectionItIs(t *testing.T) {
	tr := listen(t, Config{})
	tests := []struct {
		say   string
		owner string
	}{
		{"GET / HTTP/1.1\r\n\r\n", "requests"},
		{"A", "requests"},
		{"Z", "requests"},
		{"\x16\x03\x01", "requests"},
		{"\xf4\x06snakes", "gossip"},
		{"\xf4", "gossip"},
		{"get / HTTP/1.1\r\n\r\n", "nobody"},
		{"@", "nobody"},
		{"[", "nobody"},
		{"\x00", "nobody"},
		{"\xff", "nobody"},
	}
	for _, test := range tests {
		client := dial(t, tr, test.say)
		switch test.owner {
		case "requests":
			wantRead(t, accept(t, tr.Requests()), test.say)
		case "gossip":
			select {
			case c := <-tr.StreamCh():
				wantRead(t, c, test.say)
				_ = c.Close()
			case <-time.After(patience):
				t.Fatalf("%q: no stream in %v", test.say, patience)
			}
		case "nobody":
			wantClosed(t, client)
		}
	}
	want := Stats{Requests: 4, Streams: 2, Unknown: 5}
	eventually(t, "counts", func() bool { return tr.Stats() == want })
}

func TestSilentConnectionIsClosed(t *testing.T) {
	tr := listen(t, Config{SniffTimeout: 30 * time.Millisecond})
	wantClosed(t, dial(t, tr, ""))
	hungUp := dial(t, tr, "")
	_ = hungUp.Close()
	eventually(t, "two silent connections counted", func() bool { return tr.Stats().Silent == 2 })
}

func TestClaimedConnectionHasNoDeadlineLeft(t *testing.T) {
	const sniff = 100 * time.Millisecond
	tr := listen(t, Config{SniffTimeout: sniff})
	client := dial(t, tr, "G")
	claimed := accept(t, tr.Requests())
	time.AfterFunc(2*sniff, func() { _, _ = io.WriteString(client, "ET") })
	wantRead(t, claimed, "GET")

	_ = claimed.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	var timeout net.Error
	if n, err := claimed.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("read past the owner's deadline: got %d, %v; want a timeout", n, err)
	}
}

func TestIdleConnectionsBlockNobody(t *testing.T) {
	tr := listen(t, Config{MaxUnclaimed: 32})
	serve(t, tr, "here")
	for range 100 {
		dial(t, tr, "")
	}
	for range 20 {
		dial(t, tr, "G") // claimed, and then idle at the server's expense
		wantAnswer(t, tr, "here")
	}
	if got := tr.Stats().Crowded; got < 100-32 {
		t.Errorf("crowded: got %d, want at least %d", got, 100-32)
	}
	if got := tr.unclaimed.len(); got > 32 {
		t.Errorf("unclaimed connections: got %d, want at most 32", got)
	}
}

func TestOldestUnclaimedConnectionGivesWay(t *testing.T) {
	for _, say := range []string{"", "G", "\xf4"} { // silent, or waiting for its owner
		tr := listen(t, Config{MaxUnclaimed: 2})
		oldest := dial(t, tr, say)
		second, third := dial(t, tr, ""), dial(t, tr, "")
		wantClosed(t, oldest)
		for _, c := range []net.Conn{second, third} {
			if _, err := io.WriteString(c, "PUT"); err != nil {
				t.Fatal(err)
			}
			wantRead(t, accept(t, tr.Requests()), "PUT")
		}
		if got := tr.Stats(); got.Crowded != 1 || got.Silent != 0 {
			t.Errorf("after %q: got %+v, want one crowded out and none silent", say, got)
		}
	}
}

func TestOldestHasItsGraceBeforeItGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnclaimed(2)
		ended := 0
		add := func() (*list.Element, bool, time.Duration) {
			start := time.Now()
			at, crowded := u.add(func() { ended++ })
			return at, crowded, time.Since(start)
		}
		_, _, _ = add()
		time.Sleep(grace / 2)
		second, _, _ := add()
		if _, crowded, took := add(); !crowded || took != grace/2 || ended != 1 {
			t.Errorf("full: got crowded %t after %v with %d ended; want the oldest ended after %v", crowded, took, ended, grace/2)
		}
		time.AfterFunc(grace/4, func() { u.remove(second) })
		if _, crowded, took := add(); crowded || took != grace/4 || ended != 1 {
			t.Errorf("full, then freed: got crowded %t after %v with %d ended; want a place after %v", crowded, took, ended, grace/4)
		}
		time.Sleep(grace)
		if _, crowded, took := add(); !crowded || took != 0 || ended != 2 {
			t.Errorf("full of old ones: got crowded %t after %v with %d ended; want the oldest ended at once", crowded, took, ended)
		}
		u.remove(second) // for the second time
		if got := u.len(); got != 2 {
			t.Errorf("places taken: got %d, want 2", got)
		}
	})
}

func TestBurstOfClientsIsServedInFull(t *testing.T) {
	tr := listen(t, Config{})
	serve(t, tr, "here")
	var clients sync.WaitGroup
	for range 300 {
		clients.Go(func() {
			if got, err := get(tr); err != nil || got != "here" {
				t.Errorf("GET: got %q, %v; want here", got, err)
			}
		})
	}
	clients.Wait()
	eventually(t, "no connection is unclaimed", func() bool { return tr.unclaimed.len() == 0 })
	if got := tr.Stats(); got.Crowded != 0 || got.Requests != 300 {
		t.Errorf("got %+v, want 300 requests and none crowded out", got)
	}
}

func TestOfferEndsWithItsOwnerOrItsContext(t *testing.T) {
	ends := map[string]func(*owner, context.CancelFunc){
		"owner":   func(o *owner, _ context.CancelFunc) { o.end() },
		"context": func(_ *owner, cancel context.CancelFunc) { cancel() },
	}
	for name, end := range ends {
		synctest.Test(t, func(t *testing.T) {
			o := newOwner()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			offered := make(chan bool, 1)
			go func() { offered <- o.offer(ctx, nil) }()
			synctest.Wait() // until it waits for a claim
			end(o, cancel)
			synctest.Wait()
			select {
			case claimed := <-offered:
				if claimed {
					t.Errorf("%s ended: offer reports a claim", name)
				}
			default:
				t.Errorf("%s ended: offer still waits", name)
				<-o.conns
			}
		})
	}
}

func TestRequestSentInPiecesIsAnswered(t *testing.T) {
	tr := listen(t, Config{})
	serve(t, tr, "here")
	dial(t, tr, "GE") // and no more: it keeps nobody from being served
	slow := dial(t, tr, "G")
	eventually(t, "half a request is claimed", func() bool { return tr.Stats().Requests == 2 })
	wantAnswer(t, tr, "here")
	if _, err := io.WriteString(slow, "ET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(slow)
	if err != nil || !bytes.HasSuffix(answer, []byte("here")) {
		t.Errorf("got %q, %v; want an answer that ends in here", answer, err)
	}
}

func TestRequestsMayBeTLS(t *testing.T) {
	tr := listen(t, Config{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}))
	_ = server.Listener.Close()
	server.Listener = tr.Requests()
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	resp, err := server.Client().Get("https://" + tr.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "HTTP/2.0" {
		t.Errorf("got %q, %v; want HTTP/2.0", got, err)
	}
}

func TestConnectionsFromBeforeThePortIsClosedAreServed(t *testing.T) {
	tr := listen(t, Config{})
	requests := tr.Requests()
	waits := dial(t, tr, "G")
	claimed, err := requests.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer claimed.Close()
	for range 2 {
		if err := tr.StopAccepting(); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := net.DialTimeout("tcp", tr.Addr().String(), patience); err == nil {
		c.Close()
		t.Error("a connection was made to a port that is closed")
	}
	wantRead(t, claimed, "G")
	if _, err := io.WriteString(claimed, "answer"); err != nil {
		t.Fatal(err)
	}
	wantRead(t, waits, "answer")
}

func TestAcceptGoesOnAfterErrors(t *testing.T) {
	tr := listen(t, Config{})
	other, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	failures := 3
	var accepting sync.WaitGroup
	accepting.Go(func() {
		tr.acceptAll(t.Context(), func() (*net.TCPConn, error) {
			if failures > 0 {
				failures--
				return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
			}
			return other.AcceptTCP()
		})
	})
	defer accepting.Wait()
	defer other.Close()

	client, err := net.Dial("tcp", other.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, _ = io.WriteString(client, "GET")
	wantRead(t, accept(t, tr.Requests()), "GET")
	if got := tr.Stats().AcceptErrors; got != 3 {
		t.Errorf("accept errors: got %d, want 3", got)
	}
}

func TestPauseGrowsToOneSecond(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	var p pause
	for i, want := range []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000} {
		p.wait(ended)
		if got := time.Duration(p); got != want*time.Millisecond {
			t.Errorf("pause %d: got %v, want %v", i, got, want*time.Millisecond)
		}
	}
	p.reset()
	p.wait(ended)
	if got := time.Duration(p); got != 5*time.Millisecond {
		t.Errorf("pause after success: got %v, want 5ms", got)
	}
}

func TestConnectionGivesItsFirstByteOnce(t *testing.T) {
	tr := listen(t, Config{})
	readers := map[string]func(net.Conn) ([]byte, error){
		"Read":    func(c net.Conn) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{c}) },
		"WriteTo": func(c net.Conn) ([]byte, error) { var b bytes.Buffer; _, err := io.Copy(&b, c); return b.Bytes(), err },
		"both": func(c net.Conn) ([]byte, error) {
			var b bytes.Buffer
			if _, err := io.CopyN(&b, c, 1); err != nil {
				return nil, err
			}
			_, err := c.(io.WriterTo).WriteTo(&b)
			return b.Bytes(), err
		},
	}
	for name, read := range readers {
		client := dial(t, tr, "DELETE")
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c := accept(t, tr.Requests())
		if n, err := c.Read(nil); n != 0 || err != nil {
			t.Errorf("%s: empty read: got %d, %v", name, n, err)
		}
		if got, err := read(c); err != nil || string(got) != "DELETE" {
			t.Errorf("%s: got %q, %v; want DELETE", name, got, err)
		}
		half, ok := c.(interface{ CloseWrite() error })
		if !ok {
			t.Fatalf("%T has no CloseWrite, without which a server cuts off its last answer", c)
		}
		if err := half.CloseWrite(); err != nil {
			t.Errorf("%s: CloseWrite: %v", name, err)
		}
		wantClosed(t, client)
	}
}
