package load

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultTimeout is that of Config.
const DefaultTimeout = 10 * time.Second

// MaxConnections keeps a slip of the finger from taking all ports of a machine.
const MaxConnections = 10_000

// Config says what a load does. It is passed by value; Value must not be changed while the load runs.
type Config struct {
	// Servers are base URLs, http or https, at least one. "host:port" means "http://host:port". Connections are spread over them in turn.
	Servers []string
	// Format is their API; nil means Snakes("", "").
	Format Format
	// Op is what to do with the keys. Get and Mix expect that all of them have values: none is a failure.
	Op Op
	// Prefix is what all keys begin with; a number of nine digits follows. ASCII letters and digits.
	Prefix string
	// Keys chooses them; nil means Sequence(0).
	Keys Keys
	// Value is what Put stores.
	Value []byte
	// RootCAs are the certificates to trust of https servers; nil means those that the system trusts.
	RootCAs *x509.CertPool
	// Token is shown with each request; empty means none.
	Token string
	// Connections is how many requests are under way at a time at most, 1 to MaxConnections.
	Connections int
	// Rate is how many requests are due in a second, all connections together; 0 means that each connection sends the
	// next one when it has an answer. A rate that the servers do not reach shows in the latencies.
	Rate float64
	// Requests ends the load after so many requests, failed ones included; 0 means that only Stop or ctx ends it.
	Requests uint64
	// Retry asks for a key again until it succeeds; only then it counts for Requests. Each failure is counted.
	Retry bool
	// Timeout is how long to wait for a connection, and for an answer; 0 means DefaultTimeout.
	Timeout time.Duration
}

// Load is requests under way. It is safe for concurrent use.
type Load struct {
	cfg     Config
	servers []*url.URL
	started time.Time
	stop    context.CancelFunc

	ended       chan struct{} // closed when all connections have ended
	begun, done atomic.Uint64

	mu     sync.Mutex // guards the window; nobody blocks while holding it
	window Result
	cut    time.Time // when it began
}

// Start checks cfg and starts its connections, which end with ctx, with Stop, or after Config.Requests. Call Wait or
// Stop in any case: they release what the load holds. Servers that cannot be reached are failures of requests, no error
// of Start.
func Start(ctx context.Context, cfg Config) (*Load, error) {
	if cfg.Format == nil {
		cfg.Format = Snakes("", "")
	}
	if cfg.Keys == nil {
		cfg.Keys = Sequence(0)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Value == nil {
		cfg.Value = []byte{} // a body, of no bytes
	}
	l := &Load{cfg: cfg, ended: make(chan struct{})}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	ctx, l.stop = context.WithCancel(ctx)
	l.started = time.Now()
	l.cut = l.started
	var connections sync.WaitGroup
	for i := range cfg.Connections {
		connections.Go(func() { newConnection(l, i).run(ctx) })
	}
	go func() {
		connections.Wait()
		close(l.ended)
	}()
	return l, nil
}

func (l *Load) check() error {
	var errs []error
	if len(l.cfg.Servers) == 0 {
		errs = append(errs, errors.New("there is no server"))
	}
	for _, text := range l.cfg.Servers {
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		server, err := url.Parse(text)
		if err != nil || server.Scheme != "http" && server.Scheme != "https" || server.Host == "" {
			errs = append(errs, fmt.Errorf("server %q is no URL like http://127.0.0.1:9000", text))
			continue
		}
		server.Path = strings.TrimRight(server.EscapedPath(), "/")
		l.servers = append(l.servers, server)
	}
	if l.cfg.Connections < 1 || l.cfg.Connections > MaxConnections {
		errs = append(errs, fmt.Errorf("%d connections are not 1 to %d", l.cfg.Connections, MaxConnections))
	}
	if l.cfg.Rate < 0 {
		errs = append(errs, fmt.Errorf("a rate of %v is below zero", l.cfg.Rate))
	}
	if l.cfg.Timeout < 0 {
		errs = append(errs, fmt.Errorf("a timeout of %v is below zero", l.cfg.Timeout))
	}
	if strings.ContainsFunc(l.cfg.Prefix, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}) {
		errs = append(errs, fmt.Errorf("the prefix %q has other characters than ASCII letters and digits", l.cfg.Prefix))
	}
	return errors.Join(errs...)
}

// Done returns how many requests have ended, failed ones included, in all windows.
func (l *Load) Done() uint64 { return l.done.Load() }

// Ended is closed when the load has ended, by itself, with its context, or by Stop.
func (l *Load) Ended() <-chan struct{} { return l.ended }

// Cut ends the window, returns it, and begins the next one.
func (l *Load) Cut() Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	window := l.window
	window.Elapsed = now.Sub(l.cut)
	l.window, l.cut = Result{}, now
	return window
}

// Wait waits until the load has ended and returns its last window.
func (l *Load) Wait() Result {
	<-l.ended
	l.stop()
	return l.Cut()
}

// Stop ends the load and returns its last window, without the requests that were under way. Stopping twice is harmless.
func (l *Load) Stop() Result {
	window := l.Cut() // before, so that it has none of the time that stopping takes
	l.stop()
	<-l.ended
	return window
}

// next waits until another request is due and returns when its latency begins to count, or false if there is none.
func (l *Load) next(ctx context.Context) (time.Time, bool) {
	turn := l.begun.Add(1) - 1
	if l.cfg.Requests > 0 && turn >= l.cfg.Requests || ctx.Err() != nil {
		return time.Time{}, false
	}
	if l.cfg.Rate == 0 {
		return time.Now(), true
	}
	due := l.started.Add(time.Duration(float64(turn) / l.cfg.Rate * float64(time.Second)))
	if wait := time.Until(due); wait > 0 {
		// That the system wakes us late is no fault of the servers: the latency counts from then.
		ok := sleep(ctx, wait)
		return time.Now(), ok
	}
	return due, true
}

func (l *Load) record(took time.Duration, err error) {
	l.mu.Lock()
	l.window.record(took, err)
	l.mu.Unlock()
	l.done.Add(1)
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
