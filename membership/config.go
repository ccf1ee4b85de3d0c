package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/membership/transport"
)

// Config says who this node is and how it finds the others. Zero durations mean their defaults.
type Config struct {
	// ID is the node id, 32 lower-case hexadecimal digits, kept for the life of the data.
	ID string
	// Origin is the number that this process drew at its start; it tells two processes with the
	// same id apart.
	Origin uint64
	// Name is for people: 1 to 63 of [a-z0-9.-].
	Name string
	// Cluster is the cluster's name: 1 to 63 of [a-z0-9-]. Nodes of another name are not heard.
	Cluster string
	// Address is HOST:PORT where others reach this node, at most 255 bytes. A host name must
	// resolve here.
	Address string
	// Version is the release that this node runs, at most 32 bytes.
	Version string
	// Seeds are HOST:PORT of nodes to join; a name stands for all its addresses and is resolved
	// anew at each try. None: a node that was in no cluster yet founds one.
	Seeds []string

	// Keys encrypt gossip and tell members from strangers: 32 bytes each, for AES-256-GCM. The first is used, all are
	// accepted, see SetKeys. None: gossip is open, to read and to take part in.
	Keys [][]byte

	// Transport carries gossip. Membership shuts down its gossip, but not the rest of it.
	Transport *transport.Transport
	// Storage keeps what must survive a restart.
	Storage Storage
	// Link carries messages to other nodes.
	Link Link
	// Logger: nil means none.
	Logger hclog.Logger
	// Now reads the wall clock; nil means time.Now.
	Now func() time.Time

	// Pace is how often a member is probed; default 1 s. All timing of failure detection is in
	// proportion. Raising it saves traffic and finds failures later.
	Pace time.Duration
	// RejoinEvery is how often members that are not alive and seeds are tried; default 5 s. A
	// node that is still joining tries four times as often.
	RejoinEvery time.Duration
	// FoundAfter is how long all seeds must be nothing but this node before it founds a cluster
	// of one; default 5 s.
	FoundAfter time.Duration
	// SettleFor is how long the view of other joining nodes must be unchanged before the one
	// with the lowest id founds a cluster, and how long a founder that has seeds waits before it
	// lets anybody count; default 1 s. Raising it makes it less likely that nodes that start at
	// once and name each other found two clusters.
	SettleFor time.Duration
}

// keyBytes is the length of a key of AES-256.
const keyBytes = 32

// Storage keeps named values durably. A value is durable when SaveState returns nil.
type Storage interface {
	// LoadState returns what was saved last, or an error that wraps fs.ErrNotExist.
	LoadState(name string) ([]byte, error)
	SaveState(name string, value []byte) error
}

// Link carries a message to the node id at address, to be given to its Membership.Consent, and
// returns the answer. An error means that no answer came from that node. It ends when ctx does.
type Link interface {
	Consent(ctx context.Context, id, address string, message []byte) ([]byte, error)
}

var (
	idPattern      = regexp.MustCompile(`^[0-9a-f]{32}$`)
	namePattern    = regexp.MustCompile(`^[a-z0-9.-]{1,63}$`)
	hostPattern    = regexp.MustCompile(`^[0-9A-Za-z.:%_-]+$`)
	clusterPattern = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
)

// Validate reports everything that is wrong with c, and nil if it can be used.
func (c Config) Validate() error {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !idPattern.MatchString(c.ID) {
		wrong("node id %q is not 32 lower-case hexadecimal digits", c.ID)
	}
	if c.Origin == 0 {
		wrong("origin is 0")
	}
	if !namePattern.MatchString(c.Name) {
		wrong("name %q is not 1 to 63 of [a-z0-9.-]", c.Name)
	}
	if !clusterPattern.MatchString(c.Cluster) {
		wrong("cluster name %q is not 1 to 63 of [a-z0-9-]", c.Cluster)
	}
	if err := validAddress(c.Address); err != nil {
		wrong("address: %w", err)
	}
	for _, seed := range c.Seeds {
		if err := validAddress(seed); err != nil {
			wrong("seed: %w", err)
		}
	}
	for i, key := range c.Keys {
		if len(key) != keyBytes {
			wrong("key %d has %d bytes, not %d", i+1, len(key), keyBytes)
		}
	}
	if len(c.Version) > 32 {
		wrong("version %q is longer than 32 bytes", c.Version)
	}
	if c.Transport == nil || c.Storage == nil || c.Link == nil {
		wrong("transport, storage and link are required")
	}
	for name, d := range map[string]time.Duration{"pace": c.Pace, "rejoin": c.RejoinEvery, "found": c.FoundAfter, "settle": c.SettleFor} {
		if d < 0 {
			wrong("%s of %v is negative", name, d)
		}
	}
	return errors.Join(problems...)
}

func validAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT: %w", address, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q: port is not 1 to 65535", address)
	}
	if !hostPattern.MatchString(host) || len(address) > 255 {
		return fmt.Errorf("%q: host is missing, too long, or neither a name nor an IP address", address)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	for d, value := range map[*time.Duration]time.Duration{
		&c.Pace: time.Second, &c.RejoinEvery: 5 * time.Second, &c.FoundAfter: 5 * time.Second, &c.SettleFor: time.Second,
	} {
		if *d == 0 {
			*d = value
		}
	}
	return c
}
