package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// authority signs certificates of servers on this machine.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its own certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	a := &authority{t: t, cert: cert, key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// sign writes a certificate with this serial number and its key.
func (a *authority) sign(serial int64, certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "a node"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(a.t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(a.t, err)
	writePEM(a.t, keyFile, "PRIVATE KEY", keyDER)
	writePEM(a.t, certFile, "CERTIFICATE", der)
}

// trusts returns what to connect with for who trusts the authority.
func (a *authority) trusts() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool}
}

// client returns one that trusts the authority and opens a connection for every request.
func (a *authority) client() *http.Client {
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: a.trusts(), ForceAttemptHTTP2: true}}
}

// serial returns the number of the certificate that a node shows.
func (a *authority) serial(n *cluster.Node) (int64, error) {
	conn, err := tls.Dial("tcp", n.Addr(), a.trusts())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

func (a *authority) awaitSerial(c *cluster.Cluster, n *cluster.Node, want int64) {
	a.t.Helper()
	c.Await(20*time.Second, fmt.Sprintf("certificate %d", want), func() error {
		if got, err := a.serial(n); err != nil || got != want {
			return fmt.Errorf("got %d, %v", got, err)
		}
		return nil
	})
}

// overTLS sends a request to a node and returns the status and the body.
func overTLS(client *http.Client, n *cluster.Node, method, path, body string) (int, string, error) {
	r, err := http.NewRequest(method, "https://"+n.Addr()+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// startTLS starts nodes with a secret, and a certificate each that the authority has signed.
func startTLS(t *testing.T, a *authority, nodes int) (c *cluster.Cluster, certFile, keyFile string) {
	t.Helper()
	c = cluster.New(t, cluster.Options{Nodes: nodes})
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	a.sign(100, certFile, keyFile)
	for i, n := range c.Nodes() {
		giveSecret(t, n, oldSecret)
		n.Args = append(n.Args, "--tls-cert", certFile, "--tls-key", keyFile)
		if i == 0 {
			n.Start()
		} else {
			n.Start("--join", "https://"+c.Node(0).Addr())
		}
	}
	client := a.client()
	c.Await(20*time.Second, "all are members", func() error {
		status, text, err := overTLS(client, c.Node(0), "GET", "/-/members", "")
		if want := fmt.Sprintf(`"known":%d,"alive":%d,`, nodes, nodes); err != nil || status != 200 || !strings.Contains(text, want) {
			return fmt.Errorf("got %d %s, %v", status, text, err)
		}
		return nil
	})
	return c, certFile, keyFile
}

func TestClientsComeByTLSOnTheSamePort(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	c, _, _ := startTLS(t, a, 3)
	n := c.Node(1)
	client := a.client()
	if status, text, err := overTLS(client, n, "PUT", "/foo?w=all", "over TLS"); status != 201 || err != nil {
		t.Fatalf("PUT: got %d %s, %v; want 201", status, text, err)
	}
	c.Await(20*time.Second, "the value from all of them", func() error { // which takes that all are synced
		if status, text, err := overTLS(client, c.Node(2), "GET", "/foo?r=all", ""); status != 200 || text != "over TLS" || err != nil {
			return fmt.Errorf("got %d %q, %v", status, text, err)
		}
		return nil
	})
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		config := a.trusts()
		config.MinVersion, config.MaxVersion = version, version
		conn, err := tls.Dial("tcp", n.Addr(), config)
		if err == nil {
			must(t, conn.Close())
		}
		if (err == nil) != want {
			t.Errorf("%s: got %v, want it taken: %v", tls.VersionName(version), err, want)
		}
	}

	plain := n.Do("GET", "/foo", "")
	if err := plain.Expect(400, "Client sent an HTTP request to an HTTPS server.\n"); err != nil || !strings.HasPrefix(plain.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("plain HTTP: %v, content type %q", err, plain.Header.Get("Content-Type"))
	}
	must(t, n.Do("POST", "/-/peer/fetch", "\x03foo", "Snakes-Protocol: 1").Expect(400))
	if status, text, err := overTLS(client, n, "POST", "/-/peer/fetch", "\x03foo"); status != 403 || err != nil {
		t.Errorf("a client at the path of nodes: got %d %s, %v; want 403", status, text, err)
	}
}

func TestCommandsTrustWhomTheyAreTold(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	c, certFile, _ := startTLS(t, a, 1)
	run := func(env []string, args ...string) (int, string) {
		cmd := exec.Command(cluster.Binary(t), args...)
		cmd.Env = append(os.Environ(), append(env, "SNAKES_SERVER=https://"+c.Node(0).Addr())...)
		out, err := cmd.CombinedOutput()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	for _, row := range []struct {
		env  []string
		args []string
		code int
		says string
	}{
		{nil, []string{"put", "foo", "some value", "--cacert", a.file}, 0, ""},
		{[]string{"SNAKES_CACERT=" + a.file}, []string{"get", "foo"}, 0, "some value"},
		{nil, []string{"get", "foo", "--cacert", certFile}, 0, "some value"}, // the certificate itself will do
		{nil, []string{"bench", "--yes", "--duration", "100ms", "--keys", "10", "--workload", "get", "--cacert", a.file}, 0, ""},
		{nil, []string{"get", "foo"}, 5, "certificate"},
		{nil, []string{"get", "foo", "--cacert", "/nowhere.pem"}, 2, "--cacert"},
		{nil, []string{"get", "foo", "--cacert", "tls_test.go"}, 2, "no certificate"},
	} {
		if code, out := run(row.env, row.args...); code != row.code || !strings.Contains(out, row.says) {
			t.Errorf("%v %v: got %d %q, want %d and %q", row.env, row.args, code, out, row.code, row.says)
		}
	}

	line := regexp.MustCompile(`(?m)^  try +(curl .*)$`).FindStringSubmatch(c.Node(0).Log())
	if line == nil || !strings.Contains(line[1], "https://") {
		t.Fatalf("the node shows no line to try with https:\n%s", c.Node(0).Log())
	}
	if out, err := exec.Command("sh", "-c", line[1]+" -s -o /dev/null -w '%{http_code}'").CombinedOutput(); err != nil || string(out) != "201" {
		t.Errorf("%s: got %q, %v; want 201", line[1], out, err)
	}
}

func TestACertificateIsReplacedWithoutAStop(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	c, certFile, keyFile := startTLS(t, a, 1)
	n := c.Node(0)
	a.awaitSerial(c, n, 100)
	a.sign(101, certFile, keyFile)
	a.awaitSerial(c, n, 101)

	must(t, os.WriteFile(certFile, []byte("no certificate"), 0o600))
	n.HangUp()
	c.Await(20*time.Second, "the log says that it is none", func() error {
		if !strings.Contains(n.Log(), "certificate not taken in") {
			return errors.New("not yet")
		}
		return nil
	})
	a.awaitSerial(c, n, 101)
	a.sign(102, certFile, keyFile)
	n.HangUp()
	a.awaitSerial(c, n, 102)
	n.Restart()
	a.awaitSerial(c, n, 102)
}

func TestCertificatesNeedAKeyAndASecret(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	dir := t.TempDir()
	cert, key, secret := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "secret.txt")
	a.sign(1, cert, key)
	writeSecrets(t, secret, oldSecret)
	for _, row := range []struct {
		args []string
		says string
	}{
		{[]string{"--tls-cert", cert}, "--tls-key"},
		{[]string{"--tls-key", key, "--secret-file", secret}, "--tls-cert"},
		{[]string{"--tls-cert", cert, "--tls-key", key}, "--secret-file"},
		{[]string{"--tls-cert", key, "--tls-key", cert, "--secret-file", secret}, "certificate"},
		{[]string{"--tls-cert", cert, "--tls-key", filepath.Join(dir, "none"), "--secret-file", secret}, "none"},
	} {
		cmd := exec.Command(cluster.Binary(t), append(row.args, "-p", "0", "-d", filepath.Join(dir, "data"), "--bind", "127.0.0.1")...)
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), row.says) {
			t.Errorf("%v: got %d %s (%v), want 2 and %q", row.args, code, out, err, row.says)
		}
	}
}
