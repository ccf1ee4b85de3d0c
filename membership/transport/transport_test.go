package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that must happen; a test that passes never uses it up.
const patience = 10 * time.Second

func listen(t *testing.T, cfg Config) *Transport {
	t.Helper()
	if cfg.Bind == "" {
		cfg.Bind = "127.0.0.1:0"
	}
	tr, err := Listen(cfg)
	if err != nil {
		t.Fatalf("Listen(%q): %v", cfg.Bind, err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return tr
}

// dial connects to tr and says the given bytes.
func dial(t *testing.T, tr *Transport, say string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", tr.Addr().String(), patience)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, say); err != nil {
		t.Fatalf("write %q: %v", say, err)
	}
	return c.(*net.TCPConn)
}

// wantClosed fails unless the other side ends c.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("read of a connection that should be closed: got %d bytes, error %v", n, err)
	}
}

func wantRead(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read: got %q, %v; want %q", got[:n], err, want)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// len returns how many connections are unclaimed.
func (u *unclaimed) len() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.byAge.Len()
}

// accept claims the next request connection.
func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	type result struct {
		conn net.Conn
		err  error
	}
	accepted := make(chan result, 1)
	go func() {
		c, err := l.Accept()
		accepted <- result{c, err}
	}()
	select {
	case r := <-accepted:
		if r.err != nil {
			t.Fatalf("Accept: %v", r.err)
		}
		t.Cleanup(func() { _ = r.conn.Close() })
		return r.conn
	case <-time.After(patience):
		t.Fatalf("Accept: no connection in %v", patience)
		return nil
	}
}

// serve answers every request with name until the test ends.
func serve(t *testing.T, tr *Transport, name string) {
	t.Helper()
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }),
		ReadHeaderTimeout: patience,
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(tr.Requests()); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
}

func get(tr *Transport) (string, error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + tr.Addr().String())
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func wantAnswer(t *testing.T, tr *Transport, want string) {
	t.Helper()
	if got, err := get(tr); err != nil || got != want {
		t.Fatalf("GET: got %q, %v; want %q", got, err, want)
	}
}

func TestPortZeroIsOnePortForTCPAndUDP(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", "[::1]:0", "localhost:0"} {
		t.Run(bind, func(t *testing.T) {
			tr := listen(t, Config{Bind: bind})
			tcp := tr.tcp.Addr().(*net.TCPAddr).AddrPort()
			udp := tr.udp.LocalAddr().(*net.UDPAddr).AddrPort()
			if tcp != udp || tcp != tr.Addr() || tcp.Port() == 0 {
				t.Errorf("got tcp %v, udp %v, Addr %v; want the same, with a port", tcp, udp, tr.Addr())
			}
		})
	}
}

func TestPortZeroTriesAgainWhileUDPIsTaken(t *testing.T) {
	bind := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	tries := 0
	tcp, udp, err := listenBoth(bind, func(network string, addr *net.UDPAddr) (*net.UDPConn, error) {
		if tries++; tries < 5 {
			return nil, syscall.EADDRINUSE
		}
		return net.ListenUDP(network, addr)
	})
	if err != nil {
		t.Fatalf("with four ports taken: %v", err)
	}
	defer tcp.Close()
	defer udp.Close()
	if got, want := udp.LocalAddr().String(), tcp.Addr().String(); got != want {
		t.Errorf("udp listens on %s, want %s as tcp", got, want)
	}

	_, _, err = listenBoth(bind, func(string, *net.UDPAddr) (*net.UDPConn, error) { return nil, syscall.EADDRINUSE })
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("with all ports taken: got %v, want EADDRINUSE", err)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	take := map[string]func(addr string) (io.Closer, error){
		"tcp": func(addr string) (io.Closer, error) { return net.Listen("tcp4", addr) },
		"udp": func(addr string) (io.Closer, error) { return net.ListenPacket("udp4", addr) },
	}
	for protocol, take := range take {
		t.Run(protocol, func(t *testing.T) {
			free := listen(t, Config{})
			addr := free.Addr().String()
			_ = free.Close()
			holder, err := take(addr)
			if err != nil {
				t.Fatal(err)
			}
			defer holder.Close()
			_, port, _ := net.SplitHostPort(addr)
			tr, err := Listen(Config{Bind: addr})
			if err == nil {
				_ = tr.Close()
				t.Fatalf("Listen on a %s port that is taken: got no error", protocol)
			}
			if want := protocol + " port " + port; !strings.Contains(err.Error(), want) {
				t.Errorf("got error %q, want it to say %q", err, want)
			}
			if errno := new(net.OpError); !errors.As(err, &errno) {
				t.Errorf("got error %#v, want the system's error wrapped", err)
			}

			_ = holder.Close() // nothing of the failed try may be left on the port
			listen(t, Config{Bind: addr})
		})
	}
}

func TestBadConfigIsRefusedWithAllItsProblems(t *testing.T) {
	_, err := Listen(Config{Bind: "127.0.0.1", SniffTimeout: -time.Second, MaxUnclaimed: -7})
	for _, want := range []string{"127.0.0.1", "-1s", "-7"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want it to name %s", err, want)
		}
	}
	for _, bind := range []string{"[::1:0", "127.0.0.1:70000", "127.0.0.1:-1"} {
		if tr, err := Listen(Config{Bind: bind}); err == nil {
			_ = tr.Close()
			t.Errorf("Listen(%q): got no error", bind)
		}
	}
}

func TestCloseEndsEverythingOnce(t *testing.T) {
	existing := goleak.IgnoreCurrent()
	tr := listen(t, Config{SniffTimeout: time.Hour})
	silent := dial(t, tr, "")
	request := dial(t, tr, "GET / HTTP/1.1\r\n")
	stream := dial(t, tr, "\xf4\x01x")
	if _, err := tr.WriteTo([]byte{gossipByte}, tr.Addr().String()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three connections wait to be claimed", func() bool { return tr.unclaimed.len() == 3 })

	var closing sync.WaitGroup
	for range 4 {
		closing.Go(func() {
			if err := tr.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	closing.Wait()
	if got := tr.unclaimed.len(); got != 0 {
		t.Errorf("unclaimed connections after Close: got %d, want 0", got)
	}
	if err := tr.Shutdown(); err != nil {
		t.Errorf("Shutdown after Close: %v", err)
	}
	for _, c := range []net.Conn{silent, request, stream} {
		wantClosed(t, c)
	}
	if _, err := tr.Requests().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: got %v, want net.ErrClosed", err)
	}
	if _, err := tr.DialTimeout(tr.Addr().String(), patience); !errors.Is(err, net.ErrClosed) {
		t.Errorf("DialTimeout after Close: got %v, want net.ErrClosed", err)
	}
	if _, err := tr.WriteTo([]byte{gossipByte}, tr.Addr().String()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("WriteTo after Close: got %v, want net.ErrClosed", err)
	}
	goleak.VerifyNone(t, existing)
	listen(t, Config{Bind: tr.Addr().String()})
}
