package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// lookTime is how often the files of a certificate are looked at, while clients come.
const lookTime = time.Second

// certificate is what this node shows to clients, read again when its files have changed. Safe for concurrent use.
type certificate struct {
	certFile, keyFile string

	current atomic.Pointer[tls.Certificate] // never nil once it is loaded
	looked  atomic.Int64                    // when the files were looked at last, in ns since 1970

	mu   sync.Mutex // guards the field below
	read [2]stamp   // of the files, as they were read last or could not be
}

// stamp tells one content of a file from another.
type stamp struct {
	at   time.Time
	size int64
}

// loadCertificate reads both files, which are PEM: the certificate with what leads to the authority that has signed it, and its key.
func loadCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	c.looked.Store(time.Now().UnixNano())
	return c, c.load(c.stamps())
}

// stamps are zero for files that cannot be looked at.
func (c *certificate) stamps() (stamps [2]stamp) {
	for i, file := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(file); err == nil {
			stamps[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return stamps
}

// load reads the files and remembers that they were as stamps say before. An error changes nothing but that.
func (c *certificate) load(stamps [2]stamp) error {
	c.read = stamps
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.current.Store(&pair)
	return nil
}

// refresh reads the files again if they have changed since they were read, or if now is true. It reports whether it read them.
func (c *certificate) refresh(now bool) (read bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamps := c.stamps()
	if !now && stamps == c.read {
		return false, nil
	}
	return true, c.load(stamps)
}

// follow is refresh, with a log.
func (c *certificate) follow(now bool, logger hclog.Logger) {
	read, err := c.refresh(now)
	switch {
	case err != nil: // as a fact of the file, which package events keeps to the log: it has the path in it
		logger.Error("certificate not taken in; the one that there was stays", "file", err)
	case read:
		logger.Info("certificate taken in", "path", c.certFile, "until", c.current.Load().Leaf.NotAfter)
	}
}

// server returns what to accept clients with.
func (c *certificate) server(logger hclog.Logger) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if now, last := time.Now().UnixNano(), c.looked.Load(); now-last > int64(lookTime) && c.looked.CompareAndSwap(last, now) {
				c.follow(false, logger)
			}
			return c.current.Load(), nil
		},
	}
}

// advice returns a host by which a client on this machine reaches the node that is at host, and what to tell curl so that it trusts the
// node: nothing, if it does anyway. The certificate is trusted by itself, whoever has signed it.
func (c *certificate) advice(host string) (name, options string) {
	leaf := c.current.Load().Leaf
	if _, err := leaf.Verify(x509.VerifyOptions{Intermediates: intermediates(c.current.Load())}); err != nil {
		options = "--cacert " + c.certFile + " "
	}
	if leaf.VerifyHostname(host) != nil && len(leaf.DNSNames) > 0 {
		return leaf.DNSNames[0], options
	}
	return host, options
}

func intermediates(pair *tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil { // what cannot be read leads nowhere
			pool.AddCert(c)
		}
	}
	return pool
}
