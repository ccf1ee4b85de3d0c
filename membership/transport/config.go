package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	defaultSniffTimeout = 5 * time.Second
	defaultMaxUnclaimed = 1024
)

// Config says where a Transport listens and how patient it is. Zero fields mean their defaults.
type Config struct {
	// Bind is the address to listen on, as host:port. The host is an IPv4 address, an IPv6 address in
	// brackets, or a name, of which one address is used. 0.0.0.0 means all IPv4 addresses; [::]
	// or an empty host means all addresses of both families where the system can do that. Port 0 picks
	// a port that is free for TCP and UDP. Required.
	Bind string

	// Logger receives what happens to connections. Nil means none.
	Logger hclog.Logger

	// SniffTimeout is how long an accepted connection may stay silent before it is closed. Default 5 s.
	// Lowering it frees places of silent clients sooner and cuts off clients on slow lines.
	SniffTimeout time.Duration

	// MaxUnclaimed is how many accepted connections may be unclaimed at once; one more closes the
	// oldest as soon as that one has had 500 ms. Default 1024. Each costs a file descriptor and a
	// goroutine.
	MaxUnclaimed int

	// Allow is a seam for tests, to cut the gossip of some members off from others: gossip with remote,
	// in either direction, passes only while Allow returns true. Packets are lost without a word, dials
	// fail, accepted streams are closed. The remote port of an accepted stream is an ephemeral one, so
	// cutting two members apart by port takes an Allow on both. It is called from many goroutines at
	// once. Nil allows everything.
	Allow func(remote netip.AddrPort) bool
}

// Validate reports everything that is wrong with c, and nil if it can be used.
func (c Config) Validate() error {
	var problems []error
	if _, _, err := net.SplitHostPort(c.Bind); err != nil {
		problems = append(problems, fmt.Errorf("bind address %q is not host:port: %w", c.Bind, err))
	}
	if c.SniffTimeout < 0 {
		problems = append(problems, fmt.Errorf("sniff timeout %v is negative", c.SniffTimeout))
	}
	if c.MaxUnclaimed < 0 {
		problems = append(problems, fmt.Errorf("bound of %d unclaimed connections is negative", c.MaxUnclaimed))
	}
	return errors.Join(problems...)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.SniffTimeout == 0 {
		c.SniffTimeout = defaultSniffTimeout
	}
	if c.MaxUnclaimed == 0 {
		c.MaxUnclaimed = defaultMaxUnclaimed
	}
	if c.Allow == nil {
		c.Allow = func(netip.AddrPort) bool { return true }
	}
	return c
}
