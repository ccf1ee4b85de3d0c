package test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// nginxFile is what operators take.
const nginxFile = "../deploy/nginx/snakes.conf"

// startNginx starts one with the configuration for operators, in front of upstreams, and returns its address. With the files of a certificate
// and its key it takes TLS.
func startNginx(t *testing.T, certificate []string, upstreams ...string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // which is not everybody's PATH
		if _, err := os.Stat(program); err != nil {
			cluster.Missing(t, "this test runs nginx, Debian's package of that name: %v", err)
		}
	}
	dir := t.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := free.Addr().String()
	must(t, free.Close())

	text := read(t, nginxFile)
	changes := map[string]string{
		"server 127.0.0.1:9000;":      "server " + strings.Join(upstreams, "; server ") + ";",
		"/etc/nginx/snakes.htpasswd;": filepath.Join(dir, "htpasswd") + ";",
	}
	if certificate == nil {
		changes["    listen 80;"] = "listen " + address + ";"
	} else { // as its comments tell
		changes["    listen 80;"] = ""
		changes["# listen 443 ssl;"] = "listen " + address + " ssl;"
		changes["# ssl_certificate     /etc/nginx/snakes.pem;"] = "ssl_certificate " + certificate[0] + ";"
		changes["# ssl_certificate_key /etc/nginx/snakes.key;"] = "ssl_certificate_key " + certificate[1] + ";"
	}
	for from, to := range changes {
		if strings.Count(text, from) != 1 {
			t.Fatalf("%s: want %q once", nginxFile, from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // whose directory it is
	}
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	log := filepath.Join(dir, "error.log")
	config := fmt.Sprintf("%sdaemon off;\npid %s;\nerror_log %s;\nworker_processes 1;\nevents {}\nhttp {\naccess_log off;\n%s%s}\n",
		user, filepath.Join(dir, "pid"), log, temporary, text)
	must(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "htpasswd"), []byte("ann:{PLAIN}password\n"), 0o600))
	cmd := exec.Command(program, "-e", log, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	output, err := os.Create(filepath.Join(dir, "output"))
	must(t, err)
	cmd.Stdout, cmd.Stderr = output, output
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it ends its workers then
		_ = cmd.Wait()                       // how it ended is no matter of this test
		_ = output.Close()                   // only read from now on
		if t.Failed() {
			logged, _ := os.ReadFile(log) // there may be none
			t.Logf("nginx:\n%s%s", read(t, output.Name()), logged)
		}
	})
	cluster.Await(t, 20*time.Second, "nginx to answer", func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return address
}

// throughNginx sends a request with this target as it stands, with the password or without, and returns the status and the body.
func throughNginx(t *testing.T, address, method, target, body string, password bool) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	r := &http.Request{Header: make(http.Header)}
	if password {
		r.SetBasicAuth("ann", "password")
	}
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: snakes.example\r\nConnection: close\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s",
		method, target, r.Header.Get("Authorization"), len(body), body)
	must(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, string(text)
}

func TestNginxLetsThroughKeysAndViewsAlone(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 2)
	address := startNginx(t, nil, c.Node(0).Addr())
	for _, row := range []struct {
		method, target, body string
		status               int
	}{
		{"PUT", "/foo?w=2", "some value", 201},
		{"GET", "/foo", "", 200},
		{"HEAD", "/foo?r=1", "", 200},
		{"DELETE", "/foo", "", 204},
		{"GET", "/foo", "", 404},
		{"GET", "/foo?r=0", "", 400},
		{"GET", "/-/members", "", 200},
		{"GET", "/-/members?format=text", "", 200},
		{"GET", "/-/ready", "", 200},
		{"GET", "/-/healthy", "", 200},
		{"GET", "/-/ui/", "", 200},
	} {
		if status, text := throughNginx(t, address, row.method, row.target, row.body, true); status != row.status {
			t.Errorf("%s %s: got %d %s, want %d", row.method, row.target, status, text, row.status)
		}
		if status, _ := throughNginx(t, address, row.method, row.target, row.body, false); status != 401 {
			t.Errorf("%s %s without the password: got %d, want 401", row.method, row.target, status)
		}
	}

	other, err := c.Node(0).Members()
	must(t, err)
	member, _ := other.Find(c.Node(1))
	for _, request := range []string{
		"GET /", "GET /-/", "GET /-/metrics", "GET /-/digest", "GET /-/keys", "GET /-/watch", "GET /-/events", "GET /-/inspect/foo", "GET /-/backup",
		"POST /-/leave", "POST /-/restore", "POST /-/repair?accept-loss=1", "PUT /-/log-level", "DELETE /-/members/" + member.ID,
		"DELETE /-/members/" + member.Name + "?force=1", "POST /-/peer/fetch", "POST /-/peer/write", "POST /-/members", "POST /-/ui/", "POST /-/ui/forget", "POST /foo",
		// In other words.
		"POST /foo/../-/leave", "POST //-/leave", "POST /-//leave", "POST /-/./leave", "POST /-/ui/../leave", "POST /-/ui/%2e%2e/leave", "POST /%2d/leave",
		"POST /-/leave?/foo", "POST /-/leave#/../../foo", "POST /-/leave%00", "DELETE /-/members/../members/" + member.ID, "GET /foo/../-/metrics", "GET /-/ui/../metrics",
		"POST http://localhost/-/leave", "POST http://localhost/foo/../-/leave",
	} {
		method, target, _ := strings.Cut(request, " ")
		if status, text := throughNginx(t, address, method, target, "", true); status != 403 && status != 400 || strings.Contains(text, "urn:snakes") {
			t.Errorf("%s: got %d %s, want it refused by nginx", request, status, text)
		}
	}
	c.AwaitMembers(10 * time.Second)
}

func TestNginxKeepsPasswordsAndSaysWhoAsks(t *testing.T) {
	t.Parallel()
	asked := make(chan *http.Request, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r }))
	t.Cleanup(upstream.Close)
	address := startNginx(t, nil, strings.TrimPrefix(upstream.URL, "http://"))
	if status, text := throughNginx(t, address, "GET", "/foo", "", true); status != 200 {
		t.Fatalf("got %d %s", status, text)
	}
	r := <-asked
	if got := r.Header["Authorization"]; len(got) != 0 {
		t.Errorf("the node got the password: %q", got)
	}
	if got := r.Header.Get("X-Forwarded-For"); got != "127.0.0.1" {
		t.Errorf("X-Forwarded-For: got %q, want the client's address", got)
	}
	if r.Host != "localhost" {
		t.Errorf("Host: got %q, want one that a node on loopback answers to", r.Host)
	}
}

// Clients come by TLS and with a password, and do not notice that a node behind nginx is killed while they write and read.
func TestNginxWithTLSLosesNoRequestWhenANodeDies(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	authority, dir := newAuthority(t), t.TempDir()
	certificate := []string{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	authority.sign(2, certificate[0], certificate[1])
	address := startNginx(t, certificate, c.Node(0).Addr(), c.Node(1).Addr(), c.Node(2).Addr())
	pool := x509.NewCertPool()
	pool.AddCert(authority.cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: 30 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	send := func(method, key, body string, password bool) error {
		r, err := http.NewRequest(method, "https://"+address+"/"+key, strings.NewReader(body))
		must(t, err)
		if password {
			r.SetBasicAuth("ann", "password")
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(answer.Body)
		if err := errors.Join(err, answer.Body.Close()); err != nil {
			return err
		}
		want := map[string]int{"PUT": 201, "GET": 200, "DELETE": 204}[method]
		if !password {
			want = 401
		}
		if answer.StatusCode != want || method == "GET" && password && string(text) != key {
			return fmt.Errorf("%s /%s: got %d %q, want %d", method, key, answer.StatusCode, text, want)
		}
		return nil
	}
	if err := send("GET", "foo", "", false); err != nil {
		t.Errorf("without the password: %v", err)
	}
	if status, _ := throughNginx(t, address, "GET", "/foo", "", true); status != 400 {
		t.Errorf("without TLS: got %d, want 400", status)
	}
	killed, written := false, 0
	for began := time.Now(); !killed || time.Since(began) < 3*time.Second; written++ {
		if written == 30 {
			c.Node(1).Kill()
			killed, began = true, time.Now()
		}
		key := fmt.Sprintf("key%d", written)
		for _, method := range []string{"PUT", "GET"} {
			if err := send(method, key, key, true); err != nil {
				t.Fatalf("%d written, a node killed: %t: %v", written, killed, err)
			}
		}
	}
	if err := send("DELETE", "key0", "", true); err != nil {
		t.Error(err)
	}
}
