package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/membership/transport"
	"github.com/protocol7/snakes/node/events"
	"github.com/protocol7/snakes/node/metrics"
	"github.com/protocol7/snakes/node/secret"
	"github.com/protocol7/snakes/node/ui"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// Node is one running node. It is made by Open and ended by Run.
type Node struct {
	cfg Config
	// logger is that of cfg, and what it gets are events. It is not for requests.
	logger hclog.Logger
	events *events.Log

	id, name, address string
	origin            uint64

	metrics     *metrics.Metrics
	history     *ui.History
	api         *api
	views       *views
	store       *disk.Store
	transport   *transport.Transport
	membership  *membership.Membership
	peers       *peers
	memory      *replication.Memory
	coordinator *replication.Coordinator
	monitor     *replication.Monitor
	syncer      *replication.Syncer
	collector   *replication.Collector
	mender      *replication.Mender
	server      *http.Server
	farewell    *farewell

	between *gate // room in memory for bodies between nodes
	door    *door

	*credentials
	identity *secret.Identity // nil: there is no secret

	// goneBack gets the reason if this node's data turns out to be an old copy.
	goneBack chan error
	// leaves gets word when this node is to leave its cluster, and leaving is true from then on
	// until it has left, or has to stay as the only member. It has room for one.
	leaves  chan struct{}
	leaving atomic.Bool

	// drained: others are to be chosen until a restart, see Drain. draining is held to change
	// what the members are told of that.
	draining sync.Mutex
	drained  atomic.Bool
	streams  *streams // that go to clients

	// serves: the data is set aside if it does not count any more, see Serve. aside says how, once
	// it is known that it does not; anew is true when that is done.
	serves bool
	aside  *disk.Aside
	anew   atomic.Bool
	port   int // that it listens on

	synced    atomic.Uint64 // how often the journal was
	announced atomic.Bool   // the supervisor was told that this node is ready
}

// Open opens the data directory and the port and puts the parts of a node together. It talks
// to nobody before Run, which must follow, also to give back what Open took. Errors: a
// *UsageError if cfg is wrong, else whatever keeps the directory or the port from being opened.
func Open(cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := newNode(cfg)
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.close())
	}
	n.banner()
	return n, nil
}

// newNode returns what open fills. cfg is valid.
func newNode(cfg Config) *Node {
	cfg = cfg.withDefaults()
	log := events.New()
	n := &Node{
		cfg: cfg, logger: newQuiet(log.Tee(cfg.Logger)), events: log, origin: newOrigin(), port: cfg.Port, metrics: metrics.New(cfg.Version),
		history:  new(ui.History),
		goneBack: make(chan error, 1), leaves: make(chan struct{}, 1), credentials: new(credentials),
		between: newGate(maxHeld), door: newDoor(doorFor(openFiles())),
	}
	n.secrets.Store(new(secret.Set))
	return n
}

// newOrigin draws the number that tells this process from all others. It is not 0.
func newOrigin() uint64 {
	for {
		if origin := rand.Uint64(); origin != 0 {
			return origin
		}
	}
}

func (n *Node) storage() disk.Config {
	return disk.Config{
		Dir: n.cfg.Data, Logger: n.logger.Named("disk"), CheckpointBytes: n.cfg.CheckpointBytes, Synced: n.noteSynced,
	}
}

func (n *Node) open() (err error) {
	if err := n.readCredentials(); err != nil {
		return err
	}
	if n.store, err = disk.Open(n.storage()); err != nil {
		return err
	}
	n.id = n.store.NodeID()
	if err := n.identify(); err != nil {
		return err
	}
	floor, err := n.store.Begin(n.origin)
	if err != nil {
		return fmt.Errorf("begin to write: %w", err)
	}
	clock := version.NewClock(n.cfg.Now, floor)
	if n.transport, err = transport.Listen(transport.Config{
		Bind: n.cfg.listenAt(), Logger: n.logger, MaxUnclaimed: n.door.Unclaimed,
	}); err != nil {
		return err
	}
	bound := n.transport.Addr()
	n.port = int(bound.Port())
	n.name = n.cfg.nodeName(bound.Port())
	if n.address, err = n.cfg.advertised(context.Background(), bound, n.transport.FinalAdvertiseAddr); err != nil {
		return fmt.Errorf("advertise: %w", err)
	}
	n.peers = newPeers(peersConfig{
		Hello: n.hello, Addresses: n.addressOf, Roster: (*rosterLink)(n), Clock: clock, Asked: n.metrics.Asked,
		Identity: n.identity, Between: n.between, Logger: n.logger.Named("peers"),
	})
	n.views = newViews(n.peers.Members)
	if err := n.join(); err != nil {
		return err
	}
	return n.replicate(clock)
}

// join makes this node's membership.
func (n *Node) join() (err error) {
	seeds, err := n.cfg.seeds()
	if err != nil {
		return err
	}
	keys, err := n.secrets.Load().GossipKeys(n.cfg.Cluster)
	if err != nil {
		return err
	}
	n.membership, err = membership.New(membership.Config{
		ID: n.id, Origin: n.origin, Name: n.name, Cluster: n.cfg.Cluster, Address: n.address,
		Version: n.cfg.Version, Seeds: seeds, Keys: keys,
		Transport: n.transport, Storage: n.store, Link: n.peers, Logger: n.logger,
	})
	if errors.Is(err, membership.ErrRemoved) {
		return removedError(n.cfg.Data)
	}
	if errors.Is(err, membership.ErrOtherName) {
		return fmt.Errorf("%s: %w; start with the --cluster that it had, or with another data directory", n.cfg.Data, err)
	}
	return err
}

// removedError says what to do with a node that its cluster has given up.
func removedError(data string) error {
	return fmt.Errorf("%w: it left or was forgotten, and its data in %s does not count any more; to join again, start with an empty data directory",
		membership.ErrRemoved, data)
}

// replicate makes the coordinator and what serves it over HTTP.
func (n *Node) replicate(clock *version.Clock) (err error) {
	members := &members{membership: n.membership}
	if n.memory, err = replication.OpenMemory(n.store, n.logger); err != nil {
		return err
	}
	n.coordinator, err = replication.New(replication.Config{
		Store: n.store, Members: members, Peers: n.peers, Clock: clock, Now: n.cfg.Now, Origin: n.origin, Memory: n.memory,
		Logger: n.logger,
	})
	if err != nil {
		return err
	}
	replica := n.coordinator.Replica()
	n.syncer, err = replication.NewSyncer(replication.SyncConfig{
		Replica: replica, Members: members, Peers: n.peers, Memory: n.memory, Logger: n.logger,
		Checked:   func() bool { return n.monitor.Checked() }, // which is made after this
		SetSynced: n.membership.SetSynced, Busy: n.coordinator.Busy, BytesPerSecond: n.cfg.SyncLimit,
	})
	if err != nil {
		return err
	}
	n.mender, err = replication.NewMender(replication.MenderConfig{Replica: replica, Members: members, Peers: n.peers, Logger: n.logger})
	if err != nil {
		return err
	}
	n.monitor, err = replication.NewMonitor(replication.MonitorConfig{
		Replica: replica, Members: members, Peers: n.peers, Memory: n.memory, Logger: n.logger,
		Heard: n.syncer.Heard, Compared: n.mender.Compared, GoneBack: func(reason error) { n.goneBack <- reason },
	})
	if err != nil {
		return err
	}
	n.collector, err = replication.NewCollector(replication.CollectorConfig{
		Replica: replica, Members: members, Memory: n.memory, Synced: n.syncer.Synced,
		MinAge: n.cfg.TombstoneAge, Logger: n.logger,
	})
	if err != nil {
		return err
	}
	offers, err := replication.NewOffers(replication.OffersConfig{Store: n.store, Members: members, Collected: n.memory.Collected})
	if err != nil {
		return err
	}
	log := n.cfg.Logger.Named("http")
	config := apiConfig{
		Self: n.id, Name: n.name, MaxValue: n.cfg.MaxValue,
		Coordinator: n.coordinator, Cluster: n.membership, Monitor: n.monitor, Store: n.store,
		Syncer: n.syncer, Collector: n.collector, Operations: n,
		Replica: replica, Offers: offers, Roster: n.membership, Clock: clock, Exposed: n.cfg.exposed(),
		Metrics: n.metrics, Log: log,
	}
	config.Hosts, config.Between, config.Overload = n.ownHosts(), n.between, n.logger.Named("http")
	if n.identity != nil {
		config.PeerOf = n.identity.Peer
	}
	config.TLS = n.certificate != nil
	if n.cfg.TokenFile != "" {
		config.Tokens = currentTokens{&n.tokens}
	}
	config.Events, config.Origin = n.events, n.origin
	config.Views, config.History = n.views, n.history
	n.streams = newStreams()
	config.WhenClosing, config.Drained = n.streams.whenEnding, n.drained.Load
	n.api = newAPI(config)
	n.server, n.farewell = newServer(n.api, log), newFarewell(n.api, log)
	n.server.RegisterOnShutdown(n.streams.close)
	n.metrics.Watch(metrics.Sources{
		ID: n.id, Name: n.name, Cluster: n.cfg.Cluster, Ready: n.api.isReady,
		Members: n.membership, Port: n.transport, Coordinator: n.coordinator, Monitor: n.monitor,
		Syncer: n.syncer, Collector: n.collector, Mender: n.mender, Store: n.store,
	})
	return nil
}

// Address returns the HOST:PORT that others use.
func (n *Node) Address() string { return n.address }

// Name returns the node's name.
func (n *Node) Name() string { return n.name }

// Run serves until ctx ends, then ends in good order within Config.DrainTimeout, see shutdown,
// and returns nil; so it does once it has left the cluster, as it was told over HTTP. It returns
// an error if the node must not or cannot go on: it was removed from the cluster, its data is an
// old copy, another live process has its id, or its port is gone. In any case it has given
// back directory and port when it returns, unless a disk that hangs keeps it from doing so in
// time; the process should end then.
func (n *Node) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.Background())
	remembering, forget := context.WithCancel(context.Background()) // ends after all that has something to remember
	var running, memory sync.WaitGroup
	served := make(chan error, 1)
	err := n.membership.Start()
	if err == nil {
		memory.Go(func() { n.memory.Run(remembering) })
		running.Go(func() { n.monitor.Run(background) })
		running.Go(func() { n.syncer.Run(background) })
		running.Go(func() { n.collector.Run(background) })
		running.Go(func() { n.mender.Run(background) })
		running.Go(func() { n.settleRelics(background) })
		running.Go(func() { n.depart(background) })
		running.Go(func() { n.api.sample(background) })
		if n.cfg.Reload != nil {
			running.Go(func() { n.followFiles(background) })
		}
		running.Go(func() { served <- n.server.Serve(n.requests()) })
		if n.cfg.Notify != nil {
			running.Go(func() { n.supervise(background) })
		}
		if n.cfg.Watchdog > 0 {
			running.Go(func() { n.feedWatchdog(background) })
		}
		err = n.serve(ctx, served)
	}
	n.end(err)
	if n.aside == nil { // else it begins anew in this process
		n.tell("STOPPING=1\nSTATUS=Stopping: requests end, then the other members are told")
	}
	return errors.Join(err, n.take(n.shutdown(time.Now(), n.cfg.DrainTimeout, func() {
		stop()
		running.Wait()
		forget()
		memory.Wait()
	})))
}

// serve returns when this node is to end, and why if that is an error.
func (n *Node) serve(ctx context.Context, served <-chan error) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-n.membership.Fatal():
		switch removed := errors.Is(err, membership.ErrRemoved); {
		case removed && n.leaving.Load():
			n.logger.Info("this node has left the cluster")
			return nil
		case removed:
			return removedError(n.cfg.Data)
		}
		return err
	case err := <-n.goneBack:
		return err
	case err := <-served:
		return err
	}
}

// close gives back what open took, as far as it got.
func (n *Node) close() error {
	var errs []error
	if n.views != nil {
		n.views.Close()
	}
	if n.peers != nil {
		n.peers.Close()
	}
	if n.transport != nil {
		errs = append(errs, n.transport.Close())
	}
	if n.store != nil {
		errs = append(errs, n.closeStore())
	}
	return errors.Join(errs...)
}

// banner tells whoever started the node what to do next. All that it shows works at once.
func (n *Node) banner() {
	data, err := filepath.Abs(n.cfg.Data)
	if err != nil {
		data = n.cfg.Data
	}
	_, port, _ := net.SplitHostPort(n.address)
	next, _ := strconv.Atoi(port)
	options := ""
	if n.cfg.Bind != n.cfg.defaultBind() {
		options = " --bind " + n.cfg.Bind
	}
	if n.cfg.protected() {
		options += " --secret-file " + n.cfg.SecretFile
	}
	if n.cfg.TokenFile != "" {
		options += " --token-file " + n.cfg.TokenFile
	}
	at, trust := n.address, ""
	if n.certificate != nil {
		options += " --tls-cert " + n.cfg.TLSCert + " --tls-key " + n.cfg.TLSKey
		host, _, _ := net.SplitHostPort(n.address) // it was made of a host and a port
		host, trust = n.certificate.advice(host)
		at = net.JoinHostPort(host, port)
	}
	at = n.cfg.scheme() + "://" + at
	if n.cfg.exposed() {
		options += " --insecure"
		fmt.Fprintf(n.cfg.Output, "WARNING: --insecure: anybody who reaches %s can read and write everything.\n", n.address)
	}
	if n.cfg.Cluster != DefaultCluster {
		options += " --cluster " + n.cfg.Cluster
	}
	joining, try := "", at+"/foo"
	if !n.membership.Snapshot().Joined() {
		whom := "the members that it knew"
		if len(n.cfg.Join) > 0 {
			whom = strings.Join(n.cfg.Join, ",")
		}
		joining = fmt.Sprintf("  joining    %s; until then only ?w=1 and ?r=1 are served\n", whom)
		try = fmt.Sprintf(`"%s/foo?w=1"`, at)
	}
	fmt.Fprintf(n.cfg.Output, `snakes %s: node %s of cluster %s
  data       %s
%s  try        curl %s-X PUT -d "some value" %s
  members    %s/-/members
  next node  snakes -p %d -d data%d%s --join %s
`, n.cfg.Version, n.name, n.cfg.Cluster, data, joining, trust, try, at, next+1, next+1, options, n.address)
}

// hello is how this node introduces itself to others now.
func (n *Node) hello() membership.Hello {
	h := membership.Hello{ID: n.id, Address: n.address, Origin: n.origin}
	if n.membership != nil {
		h.ClusterID = n.membership.Snapshot().ClusterID
	}
	return h
}

func (n *Node) addressOf(id string) (string, bool) { return n.membership.Address(id) }

// rosterLink gives peers the membership that is made after them, since membership needs peers
// itself.
type rosterLink Node

// Stamp implements roster.
func (l *rosterLink) Stamp() string { return l.membership.Stamp() }

// State implements roster.
func (l *rosterLink) State() []byte { return l.membership.State() }

// Merge implements roster.
func (l *rosterLink) Merge(state []byte) error { return l.membership.Merge(state) }

// Refused implements rosterNews.
func (l *rosterLink) Refused(err error) { l.membership.Refused(err) }

// members is membership in the terms of replication.
type members struct {
	membership *membership.Membership
	last       atomic.Pointer[lastView]
}

// lastView is the view that was made of a snapshot. Snapshots change rarely and views are
// asked for with every request.
type lastView struct {
	snapshot *membership.Snapshot
	view     *replication.View
}

// View implements replication.Members.
func (m *members) View() *replication.View {
	s := m.membership.Snapshot()
	if last := m.last.Load(); last != nil && last.snapshot == s {
		return last.view
	}
	view := &replication.View{Self: s.Self, Cluster: s.ClusterID, Rosters: s.Rosters}
	for _, member := range s.Members {
		if !member.Enrolled && member.ID != s.Self {
			continue
		}
		view.Members = append(view.Members, replication.Member{
			ID: member.ID, Name: member.Name, Live: member.Live, Synced: member.Synced,
			Draining: member.State == membership.Draining,
		})
	}
	m.last.Store(&lastView{s, view})
	return view
}

// Failed implements replication.Members.
func (m *members) Failed(id string, sent time.Time, err error) { m.membership.Failed(id, sent, err) }

// Answered implements replication.Members.
func (m *members) Answered(id string) { m.membership.Answered(id) }

// Enroll implements replication.Members.
func (m *members) Enroll(id string) error { return m.membership.Enroll(id) }

var (
	_ replication.Members = (*members)(nil)
	_ membership.Link     = (*peers)(nil)
	_ membership.Storage  = (*disk.Store)(nil)
	_ rosterNews          = (*rosterLink)(nil)
)
