package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/replication"
)

// Defaults of Config.
const (
	DefaultPort         = 9000
	DefaultData         = "data"
	DefaultCluster      = "snakes"
	DefaultMaxValue     = 1 << 20
	DefaultDrainTimeout = 10 * time.Second
	DefaultTombstoneAge = replication.DefaultMinAge
	// DefaultCheckpointBytes is that of package disk.
	DefaultCheckpointBytes = disk.DefaultCheckpointBytes
)

// loopback is the address that a node listens on if nobody says otherwise and there is no secret.
const loopback = "127.0.0.1"

// resolveTime is how long the system may take to resolve the advertised host.
const resolveTime = 5 * time.Second

// Config says what one node is to be. It is passed by value.
type Config struct {
	// Port is the TCP and UDP port, 0 to 65535; 0 picks a free one.
	Port int
	// Bind is the address to listen on, an IP address, in brackets or not, or "localhost"; empty
	// means 127.0.0.1, or all addresses with SecretFile. Anything but a loopback address needs
	// SecretFile or Insecure.
	Bind string
	// Advertise is HOST or HOST:PORT, the address that others use; empty means the bound one,
	// or for a node that listens on all addresses the one on the route to the first seed.
	Advertise string
	// Data is the data directory; empty means DefaultData.
	Data string
	// Join are seeds: HOST, HOST:PORT, http://HOST:PORT or [V6]:PORT, each or several of them
	// separated by commas. Without a port DefaultPort is meant.
	Join []string
	// Name is for people, 1 to 63 of [a-z0-9.-]; empty means HOST-PORT.
	Name string
	// Cluster is the cluster's name, 1 to 63 of [a-z0-9-]; empty means DefaultCluster.
	Cluster string
	// SecretFile is the path of a file with the secret that all nodes of the cluster share, or
	// several while it is replaced, see package secret. Empty means none: traffic between nodes is
	// open then, to read and to take part in.
	SecretFile string
	// TokenFile is the path of a file with tokens, see package token: a client may do what the token
	// allows that it shows. It needs SecretFile, since anybody could ask as a node does otherwise.
	// Empty means none: clients may do everything, but change the cluster from this machine only.
	TokenFile string
	// TLSCert and TLSKey are the paths of a certificate and its key, in PEM: clients then have to come by TLS, on the same port. The
	// files are read again when they have changed. They need SecretFile, since other nodes would come without TLS otherwise. Empty
	// means that clients come by plain HTTP.
	TLSCert, TLSKey string
	// Reload has the node read SecretFile, TokenFile and the certificate again whenever there is something to receive. What
	// cannot be read changes nothing and is logged. Nil means never. Keep room for one in it.
	Reload <-chan os.Signal
	// Notify, unless nil, is told what the supervisor of this process wants to know, in the words of sd_notify(3): "READY=1" once the
	// node listens and has looked for the other members, found or not; "STATUS=" and a line for people when that changes;
	// "RELOADING=1", then "READY=1", at each Reload; "STOPPING=1"; "WATCHDOG=1", see Watchdog. It may be called by several
	// goroutines at a time, and should not block.
	Notify func(state string) error
	// Watchdog is within what time Notify is told "WATCHDOG=1", as long as journal and membership make progress. 0 means never.
	Watchdog time.Duration
	// Insecure lets the node listen to the network without any protection.
	Insecure bool
	// MaxValue is the size of the largest value in bytes that clients may put, 64 MiB at most; 0 means
	// DefaultMaxValue.
	MaxValue int64
	// SyncLimit is how many bytes per second, keys and values, this node fetches at most of what
	// it missed; 0 means no limit. Lower, and clients and other traffic are disturbed less while
	// a node catches up, which then takes longer. Below 64 KiB it slows down large values no
	// further.
	SyncLimit int64
	// TombstoneAge is for how long this node keeps the mark of a delete after every node is known to
	// have it; 0 means DefaultTombstoneAge. Lower, and a write that was on its way for that long
	// may bring back what was deleted after it.
	TombstoneAge time.Duration
	// CheckpointBytes is how much journal is written from one checkpoint to the next, at least
	// disk.MinCheckpointBytes; 0 means DefaultCheckpointBytes. See disk.Config.
	CheckpointBytes int64
	// DrainTimeout is how long Run takes at most to end when it is told to; 0 means
	// DefaultDrainTimeout. Two seconds of it, or half if that is less, are kept for telling the
	// other members; the rest is for requests under way. Below 0.6 s it only shortens the wait
	// for requests.
	DrainTimeout time.Duration
	// Now reads the wall clock that writes are stamped by and that is compared with those of other members; nil means time.Now. It must be
	// safe for concurrent use.
	Now func() time.Time
	// Version is the release, at most 32 bytes, as other nodes and people are told.
	Version string
	// Logger gets all logs; nil means none.
	Logger hclog.Logger
	// Output is told, once the node listens, where it does and what to do next; nil means nobody
	// is.
	Output io.Writer
}

// scheme returns that of the URLs by which clients reach the node.
func (c Config) scheme() string {
	if c.TLSCert != "" {
		return "https"
	}
	return "http"
}

// protected reports whether traffic between nodes is.
func (c Config) protected() bool { return c.SecretFile != "" }

// exposed reports whether anybody on the network can take part.
func (c Config) exposed() bool { return !isLoopback(c.Bind) && !c.protected() }

// UsageError says what is wrong with a Config, in words for whoever gave it.
type UsageError struct {
	// Problems are whole sentences or lines to run.
	Problems []string
}

// Error implements error.
func (e *UsageError) Error() string { return strings.Join(e.Problems, "\n") }

var (
	namePattern    = regexp.MustCompile(`^[a-z0-9.-]{1,63}$`)
	clusterPattern = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
)

// Validate returns a *UsageError with everything that is wrong with c, or nil. It changes
// nothing and asks nobody.
func (c Config) Validate() error {
	var problems []string
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	c = c.withDefaults()
	if c.Port < 0 || c.Port > 65535 {
		wrong("port %d is not 0 to 65535", c.Port)
	}
	if c.Name != "" && !namePattern.MatchString(c.Name) {
		wrong("name %q is not 1 to 63 of a-z, 0-9, dot and dash", c.Name)
	}
	if !clusterPattern.MatchString(c.Cluster) {
		wrong("cluster name %q is not 1 to 63 of a-z, 0-9 and dash", c.Cluster)
	}
	if c.MaxValue < 1 || c.MaxValue > largestValue {
		wrong("largest value of %d bytes is not 1 byte to %d MiB", c.MaxValue, largestValue>>20)
	}
	if c.TokenFile != "" && !c.protected() {
		wrong("--token-file needs --secret-file: without a secret anybody could ask as another node does, and needs no token")
	}
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		wrong("--tls-cert and --tls-key need each other")
	case c.TLSCert != "" && !c.protected():
		wrong("--tls-cert needs --secret-file: without a secret other nodes come without TLS, on the same port")
	}
	if c.SyncLimit < 0 {
		wrong("sync limit of %d bytes per second is negative", c.SyncLimit)
	}
	if c.TombstoneAge < 0 {
		wrong("tombstone age %v is negative", c.TombstoneAge)
	}
	if c.CheckpointBytes < disk.MinCheckpointBytes {
		wrong("checkpoint size of %d bytes is less than 1 MiB", c.CheckpointBytes)
	}
	if c.Watchdog < 0 || c.Watchdog > 0 && c.Notify == nil {
		wrong("a watchdog of %v is negative, or there is nobody to tell", c.Watchdog)
	}
	if c.DrainTimeout < 0 {
		wrong("drain timeout %v is negative", c.DrainTimeout)
	}
	if len(c.Version) > 32 {
		wrong("version %q is longer than 32 bytes", c.Version)
	}
	problems = append(problems, c.addressProblems()...)
	if problems == nil {
		return nil
	}
	return &UsageError{Problems: problems}
}

// addressProblems returns what is wrong with the addresses of c, each and together.
func (c Config) addressProblems() (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if _, err := netip.ParseAddr(c.Bind); err != nil && !strings.EqualFold(c.Bind, "localhost") {
		hint := ""
		if at, err := netip.ParseAddrPort(c.Bind); err == nil {
			hint = fmt.Sprintf("; for that port: --bind %s --port %d", at.Addr(), at.Port())
		}
		wrong("bind address %q is not an IP address%s", c.Bind, hint)
	}
	if c.Advertise != "" {
		address, err := parseAddress(c.Advertise, DefaultPort)
		host, _, _ := net.SplitHostPort(address)
		if ip, ipErr := netip.ParseAddr(host); err != nil {
			wrong("advertised address %v", err)
		} else if ipErr == nil && ip.IsUnspecified() {
			wrong("advertised address %s stands for all addresses of a machine; others need one of them, or a name", host)
		}
	}
	seeds, err := c.seeds()
	if err != nil {
		wrong("%v", err)
	}
	if problems != nil {
		return problems // what follows compares addresses
	}
	for _, seed := range seeds {
		if problem := c.seedProblem(seed); problem != "" {
			return []string{problem}
		}
	}
	if c.exposed() && !c.Insecure {
		wrong("%s", c.waysOut())
	}
	return problems
}

// seedProblem says why this node and the seed cannot talk to each other, if that is sure.
func (c Config) seedProblem(seed string) string {
	seedHost, _, _ := net.SplitHostPort(seed)
	bind, bindErr := netip.ParseAddr(c.Bind)
	ip, ipErr := netip.ParseAddr(seedHost)
	bothFamilies := bind.Is6() && bind.IsUnspecified()
	if bindErr == nil && ipErr == nil && bind.Unmap().Is4() != ip.Unmap().Is4() && !bothFamilies {
		family, other := "IPv4", loopback
		if ip.Unmap().Is6() {
			family, other = "IPv6", "::1"
		}
		switch {
		case ip.Unmap().IsLoopback():
		case family == "IPv4":
			other = "0.0.0.0" + c.protection()
		default:
			other = "::" + c.protection()
		}
		return fmt.Sprintf("the seed %s is %s, which a node that listens on %s does not speak; use --bind %s", seed, family, c.Bind, other)
	}
	if host := advertisedHost(c); isLoopback(host) && isRemote(seedHost) {
		return fmt.Sprintf("others cannot reach this node at %s, and %s is on another machine; add --bind or --advertise with an address that it can reach", host, seed)
	}
	return ""
}

// protection returns the flag that lets this node listen to the network, as it may be written after --bind.
func (c Config) protection() string {
	switch {
	case c.protected():
		return " --secret-file " + c.SecretFile
	case c.Insecure:
		return " --insecure"
	}
	return " --secret-file FILE"
}

// waysOut is what to run instead of listening to the network without protection.
func (c Config) waysOut() string {
	return fmt.Sprintf(`listening on %s without protection would let anybody who reaches it read and write everything
  for this machine only:            snakes -p %d
  with a secret for all nodes:      snakes secret secret.txt
                                    snakes -p %d --bind %s --secret-file secret.txt
  for a network that you trust:     snakes -p %d --bind %s --insecure`, c.Bind, c.Port, c.Port, c.Bind, c.Port, c.Bind)
}

// defaultBind returns what Bind means if it is empty.
func (c Config) defaultBind() string {
	if c.protected() {
		return "::"
	}
	return loopback
}

// listenAt returns Bind and Port as the transport takes them.
func (c Config) listenAt() string {
	host := c.Bind
	if host == "::" {
		host = "" // all addresses, also where there is no IPv6
	}
	return net.JoinHostPort(host, strconv.Itoa(c.Port))
}

func (c Config) withDefaults() Config {
	if c.Bind == "" {
		c.Bind = c.defaultBind()
	}
	if ip, err := netip.ParseAddr(withoutBrackets(c.Bind)); err == nil {
		c.Bind = ip.String()
	}
	if c.Data == "" {
		c.Data = DefaultData
	}
	if c.Cluster == "" {
		c.Cluster = DefaultCluster
	}
	if c.MaxValue == 0 {
		c.MaxValue = DefaultMaxValue
	}
	if c.TombstoneAge == 0 {
		c.TombstoneAge = DefaultTombstoneAge
	}
	if c.CheckpointBytes == 0 {
		c.CheckpointBytes = DefaultCheckpointBytes
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Output == nil {
		c.Output = io.Discard
	}
	return c
}

// seeds returns Join as HOST:PORT each.
func (c Config) seeds() ([]string, error) {
	var seeds []string
	var errs []error
	for _, given := range c.Join {
		for part := range strings.SplitSeq(given, ",") {
			part = strings.TrimSpace(part)
			seed, err := parseAddress(part, DefaultPort)
			if err != nil {
				errs = append(errs, fmt.Errorf("seed %w", err))
				continue
			}
			seeds = append(seeds, seed)
		}
	}
	return seeds, errors.Join(errs...)
}

// parseAddress returns an address as people write it as HOST:PORT.
func parseAddress(given string, defaultPort int) (string, error) {
	wrong := fmt.Errorf("%q is not HOST, HOST:PORT, http://HOST:PORT or [IPv6]:PORT", given)
	address := given
	if scheme, rest, found := strings.Cut(given, "://"); found {
		u, err := url.Parse(given)
		if scheme != "http" && scheme != "https" || err != nil || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return "", wrong
		}
		address = strings.TrimSuffix(rest, "/")
	}
	if ip, err := netip.ParseAddr(withoutBrackets(address)); err == nil {
		return net.JoinHostPort(ip.String(), strconv.Itoa(defaultPort)), nil
	}
	if !strings.Contains(address, ":") {
		address = net.JoinHostPort(address, strconv.Itoa(defaultPort))
	}
	host, port, err := net.SplitHostPort(address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 || !hostPattern.MatchString(host) {
		return "", wrong
	}
	return net.JoinHostPort(host, port), nil
}

func withoutBrackets(host string) string {
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1]
	}
	return host
}

var hostPattern = regexp.MustCompile(`^[0-9A-Za-z.:%_-]{1,249}$`)

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// isRemote reports whether host is surely not on this machine. A name may be anything.
func isRemote(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Unmap().IsLoopback() || ip.IsUnspecified() {
		return false
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range own {
		if network, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(network.IP); ok && addr.Unmap() == ip.Unmap() {
				return false
			}
		}
	}
	return true
}

// advertisedHost returns the host that others would use, empty if it is not known before the
// node listens.
func advertisedHost(c Config) string {
	if c.Advertise != "" {
		address, _ := parseAddress(c.Advertise, DefaultPort)
		host, _, _ := net.SplitHostPort(address)
		return host
	}
	if ip, err := netip.ParseAddr(c.Bind); err == nil && ip.IsUnspecified() {
		return ""
	}
	return c.Bind
}

// advertised returns the HOST:PORT that others use, once the node listens at bound.
func (c Config) advertised(ctx context.Context, bound netip.AddrPort, final func(ip string, port int) (net.IP, int, error)) (string, error) {
	port := strconv.Itoa(int(bound.Port()))
	if c.Advertise != "" {
		address, err := parseAddress(c.Advertise, int(bound.Port()))
		if err != nil {
			return "", err
		}
		return address, resolves(ctx, address, net.DefaultResolver.LookupHost)
	}
	if !bound.Addr().IsUnspecified() {
		return bound.String(), nil
	}
	seeds, err := c.seeds()
	if err != nil {
		return "", err
	}
	var dialer net.Dialer
	for _, seed := range seeds {
		conn, err := dialer.DialContext(ctx, "udp", seed) // sends nothing; it asks the system for the route
		if err != nil {
			continue // another seed, or the interfaces, tell as well
		}
		host, _, err := net.SplitHostPort(conn.LocalAddr().String())
		_ = conn.Close() // nothing was sent
		if err == nil {
			return net.JoinHostPort(host, port), nil
		}
	}
	ip, _, err := final("", 0)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(ip.String(), port), nil
}

// resolves returns nil if lookup finds an address for the host in address, HOST:PORT, within
// resolveTime. Others would look for this node in vain, and it could not tell them why.
func resolves(ctx context.Context, address string, lookup func(ctx context.Context, host string) ([]string, error)) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	if _, err := lookup(ctx, host); err != nil {
		return fmt.Errorf("the host %s does not resolve: %w", host, err)
	}
	return nil
}

var notInName = regexp.MustCompile(`[^a-z0-9.-]+`)

// nodeName returns Name or HOST-PORT.
func (c Config) nodeName(port uint16) string {
	if c.Name != "" {
		return c.Name
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "node"
	}
	host = notInName.ReplaceAllString(strings.ToLower(host), "-")
	return fmt.Sprintf("%.57s-%d", host, port)
}
