package node

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/node/events"
	"github.com/protocol7/snakes/node/metrics"
	"github.com/protocol7/snakes/node/token"
	"github.com/protocol7/snakes/node/ui"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// coordinator serves the requests of clients for keys.
type coordinator interface {
	Put(ctx context.Context, key string, value []byte, contentType string, level replication.Level) (replication.Receipt, error)
	Delete(ctx context.Context, key string, level replication.Level) (replication.Receipt, error)
	// Get returns a receipt with replication.ErrNotFound, too.
	Get(ctx context.Context, key string, level replication.Level) (replication.Record, replication.Receipt, error)
	Inspect(ctx context.Context, key string) (replication.Inspection, error)
	List(ctx context.Context, span replication.Span, level replication.Level) (replication.Listing, replication.Receipt, error)
	Backup(ctx context.Context) (*replication.Backup, replication.Receipt, error)
	Restore(options replication.RestoreOptions) (*replication.Restore, error)
	// Writable returns nil if a write at the default level would pass now, or why not.
	Writable() error
}

// cluster is who takes part, as people see it.
type cluster interface {
	Snapshot() *membership.Snapshot
	// Forget removes a member that is not alive. force: without asking a majority.
	Forget(ctx context.Context, nameOrID string, force bool) error
}

// monitor knows what the last exchange with each peer told.
type monitor interface {
	Peer(id string) (replication.PeerStatus, bool)
	// Skew returns nil, or by how much this node's clock differs from the others'.
	Skew() error
}

// syncer knows how far this node has got with catching up.
type syncer interface {
	Progress() replication.SyncProgress
}

// collector knows for whom this node keeps tombstones.
type collector interface {
	Stats() replication.CollectorStats
}

// localStore is what this node itself keeps.
type localStore interface {
	Len() int
	TombstoneCount() int
	Seen() *seen.Set
	Digest() uint64
	Writable() error
	Stats() disk.Stats
	// Space is the room for more; zero if that is not known.
	Space() disk.Room
}

// eventLog keeps the last of what happened to this node.
type eventLog interface {
	After(number uint64) (kept []events.Event, changed <-chan struct{})
}

// replica answers what other nodes ask of this one.
type replica interface {
	Write(records []replication.Record) []replication.Outcome
	Lookup(key string) (replication.Meta, error)
	Fetch(key string) (replication.Record, error)
	Buckets() []uint64
	Contents(buckets []int) []replication.Held
	Range(span replication.Span) (replication.Stretch, error)
	// Watch tells what changes here, from what was told elsewhere or, if that is nil, from now on.
	Watch(prefix string, from *seen.Set) (*replication.Watch, error)
	// Status answers an exchange with node from.
	Status(from string, theirs replication.Status) replication.Status
}

// offers lets other nodes pull what they lack.
type offers interface {
	OpenPull(from string, theirs *seen.Set) (replication.Pull, error)
	NextPage(pull, from uint64) (replication.Page, error)
}

// roster is what this node knows of the agreement on who the members are.
type roster interface {
	// Stamp is a short text, fit for a header, that changes whenever what State returns does.
	Stamp() string
	// State is all that this node knows of the roster, Merge takes in the State of another one.
	State() []byte
	Merge(state []byte) error
	// Admit returns nil if the node that says hello may ask, or membership.ErrRemoved,
	// ErrOtherCluster or ErrTwin.
	Admit(ctx context.Context, hello membership.Hello) error
	// Consent answers one message of the agreement, which may arrive twice, and decides by
	// itself who may send it.
	Consent(ctx context.Context, hello membership.Hello, message []byte) ([]byte, error)
}

// tokens knows what whoever shows a token may do.
type tokens interface {
	Role(shown string) token.Role
}

// apiConfig is what the HTTP side of one node is made of. All fields are needed but PeerOf and those after it.
type apiConfig struct {
	// Self is the node id, Name the name for people.
	Self, Name string
	// MaxValue is the size in bytes of the largest value that clients may put. Other nodes
	// are not bound by it: they may have been started with a larger one.
	MaxValue int64

	Coordinator coordinator
	Cluster     cluster
	Monitor     monitor
	Store       localStore
	Syncer      syncer
	Collector   collector
	Operations  operations

	// Replica, Offers, Roster and Clock serve the other nodes.
	Replica replica
	Offers  offers
	Roster  roster
	Clock   *version.Clock

	// PeerOf returns the id of the node that a connection has proven to come from, or an error if
	// it has not. Nil: there is no secret, and no proof is asked for.
	PeerOf func(*tls.ConnectionState) (id string, err error)
	// TLS: clients have to come by TLS.
	TLS bool
	// Tokens tell what a client may do. Nil: all of them everything, but what changes the cluster
	// from this machine only.
	Tokens tokens
	// Hosts are the names besides those of loopback by which this node is asked for. None: it may
	// be asked for by any name.
	Hosts []string
	// Exposed: anybody on the network can take part.
	Exposed bool

	// Metrics is told of all requests, and told by GET /-/metrics; nil: of nobody else.
	Metrics *metrics.Metrics

	// Between is the room in memory for bodies between nodes, in bytes; nil: as much as usual, not shared with anybody.
	Between *gate

	// Views are asked for what other members see; nil: nobody is asked.
	Views *views
	// History is what the page plots; nil: nothing.
	History *ui.History

	// Events is what happened to this node, Origin the number of its process, by which events are
	// told from those of another.
	Events eventLog
	Origin uint64

	// Heartbeat is after how long a stream that has nothing to tell says that it is there, Stall for
	// how long its reader may take nothing; 0 means 15 s and 10 s.
	Heartbeat, Stall time.Duration
	// Drained reports whether others are to be chosen. nil: never.
	Drained func() bool
	// WhenClosing has f called when the node stops, unless stop is called before: streams never end
	// by themselves. nil: it never stops.
	WhenClosing func(f func()) (stop func() bool)

	// Overload gets a line for each request that was refused for its being too much; it should not write them all. nil: none.
	Overload hclog.Logger
	// Log gets a line per request at debug and one per failure at warn or error; nil: none.
	Log hclog.Logger
}

// api answers the HTTP requests of clients and of other nodes. It starts no goroutine and is
// safe for concurrent use.
type api struct {
	apiConfig
	router   *mux.Router
	frames   *frames
	requests *metrics.HTTP
	origins  *http.CrossOriginProtection
	slow     lineRate
	// reads are the places for reads under way.
	reads *gate
	// sent and shown are the room in memory for what clients send, and for what they are sent.
	sent, shown *gate
}

// newAPI returns the handler of all that a node serves over HTTP.
func newAPI(config apiConfig) *api {
	if config.Log == nil {
		config.Log = hclog.NewNullLogger()
	}
	if config.Overload == nil {
		config.Overload = hclog.NewNullLogger()
	}
	if config.Drained == nil {
		config.Drained = func() bool { return false }
	}
	if config.Heartbeat == 0 {
		config.Heartbeat = defaultHeartbeat
	}
	if config.Stall == 0 {
		config.Stall = defaultStall
	}
	reads := newGate(maxReads)
	config.Coordinator = gated{config.Coordinator, reads, newGate(maxWrites)}
	if config.Between == nil {
		config.Between = newGate(maxHeld)
	}
	a := &api{
		apiConfig: config, origins: http.NewCrossOriginProtection(), frames: newFrames(),
		reads: reads, sent: newGate(max(maxHeld, config.MaxValue)), shown: newGate(maxHeld),
	}
	if a.Metrics == nil {
		a.Metrics = metrics.New("")
	}
	if a.History == nil {
		a.History = new(ui.History)
	}
	a.router = a.routes()
	a.requests = a.Metrics.HTTP(paths(a.router))
	return a
}
