package node

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"github.com/protocol7/snakes/node/ui"
	"github.com/protocol7/snakes/replication"
)

// routes lists all that a node serves. Keys have the top level for themselves; everything
// else lives under /-/, which no key can shadow.
func (a *api) routes() *mux.Router {
	// SkipClean and UseEncodedPath: mux sees the path as it was sent and redirects nobody.
	r := mux.NewRouter().SkipClean(true).UseEncodedPath()
	route := func(path string, h handler, methods ...string) {
		r.Handle(path, a.serve(h)).Methods(methods...)
	}
	const (
		GET    = http.MethodGet
		HEAD   = http.MethodHead
		PUT    = http.MethodPut
		POST   = http.MethodPost
		DELETE = http.MethodDelete
	)
	// First what is asked for with each read and write: mux tries one route after the other.
	route(peerPath+"write", a.member(a.peerWrite, maxPeerBody), POST)
	route(peerPath+"lookup", a.member(a.peerLookup, maxQuestion), POST)
	route(peerPath+"fetch", a.member(a.peerFetch, maxQuestion), POST)
	route("/{key}", a.get, GET, HEAD)
	route("/{key}", a.put, PUT)
	route("/{key}", a.delete, DELETE)

	route("/", a.index, GET, HEAD)
	route("/-/", a.index, GET, HEAD)
	route("/-/members", a.members, GET, HEAD)
	route("/-/members/{member}", a.forget, DELETE)
	route("/-/healthy", a.healthy, GET, HEAD)
	route("/-/ready", a.ready, GET, HEAD)
	route("/-/digest", a.digest, GET, HEAD)
	route("/-/inspect/{key}", a.inspect, GET, HEAD)
	route("/-/keys", a.list, GET, HEAD)
	route("/-/metrics", a.metrics, GET, HEAD)
	route("/-/watch", a.watch, GET, HEAD)
	route("/-/events", a.events, GET, HEAD)
	route("/-/log-level", a.logLevel, GET, HEAD)
	route("/-/log-level", a.setLogLevel, PUT)
	route("/-/backup", a.backup, GET, HEAD)
	route("/-/restore", a.restore, POST)
	route("/-/drain", a.drain, POST)
	route("/-/undrain", a.undrain, POST)
	route("/-/leave", a.leave, POST)
	route("/-/repair", a.repair, POST)

	route("/-/ui", a.page, GET, HEAD)
	route(ui.Root, a.page, GET, HEAD)
	route(ui.Root+"live", a.live, GET, HEAD)
	for name := range a.acts() {
		route(ui.Root+name, a.ask, GET, HEAD)
		route(ui.Root+name, a.act, POST)
	}
	route(ui.Root+"{asset}", a.asset, GET, HEAD)

	route(peerPath+"pull", a.member(a.peerPull, maxState), POST)
	route(peerPath+"page", a.member(a.peerPage, maxQuestion), POST)
	route(peerPath+"exchange", a.member(a.peerExchange, maxState), POST)
	route(peerPath+"buckets", a.member(a.peerBuckets, maxQuestion), POST)
	route(peerPath+"contents", a.member(a.peerContents, maxQuestion), POST)
	route(peerPath+"range", a.member(a.peerRange, maxQuestion), POST)
	route(peerPath+"members", a.member(a.peerMembers, maxQuestion), POST)
	route(peerPath+"consent", a.anyNode(a.peerConsent), POST)

	r.NotFoundHandler = a.serve(a.notFound)
	r.MethodNotAllowedHandler = a.serve(a.methodNotAllowed)
	return r
}

// paths returns those that r has routes for.
func paths(r *mux.Router) (paths []string) {
	_ = r.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		path, err := route.GetPathTemplate()
		if err == nil {
			paths = append(paths, path)
		}
		return nil
	}) // the function above returns no error
	return paths
}

func (a *api) notFound(w *response, r *http.Request) error {
	path := rawPath(r)
	switch {
	case path == "": // "GET http://host:port"
		r.URL.Path = "/"
		a.route(w, r)
		return nil
	case isPeerPath(r):
		if err := a.provenPeer(w, r); err != nil {
			return err
		}
		return refuse(errNoResource, "There is nothing at this path.")
	case strings.HasPrefix(path, "/-/"):
		return refuse(errNoResource, "There is nothing at this path. GET /-/ lists what there is.")
	}
	_, err := rawKey(r, "/")
	return err
}

func (a *api) methodNotAllowed(w *response, r *http.Request) error {
	if rawPath(r) == "/" && (r.Method == http.MethodPut || r.Method == http.MethodDelete) {
		_, err := rawKey(r, "/") // a key was meant, and forgotten
		return err
	}
	if isPeerPath(r) {
		if err := a.provenPeer(w, r); err != nil {
			return err
		}
	}
	allow := a.allowed(r)
	w.Header().Set("Allow", allow)
	return refuse(errMethod, "This path takes %s.", allow)
}

// allowed returns the methods that are routed for the path of r, for an Allow header.
func (a *api) allowed(r *http.Request) string {
	methods := []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}
	return strings.Join(slices.DeleteFunc(methods, func(method string) bool {
		probe := *r
		probe.Method = method
		var match mux.RouteMatch
		return !a.router.Match(&probe, &match) || match.MatchErr != nil
	}), ", ")
}

// rawPath returns the path of r as it was sent, neither cleaned nor decoded. It begins with a
// slash, but for the request targets "*" and "host:port" and for an absolute one without path.
func rawPath(r *http.Request) string {
	target, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(target, "/") {
		return target
	}
	_, rest, absolute := strings.Cut(target, "://")
	if !absolute {
		return target
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		return ""
	}
	return rest[slash:]
}

// rawKey returns the key that follows prefix in the path of r as it was sent. A key needs no
// escapes, so that one which has any is no key; decoding first would let "/%66oo" and "/foo"
// be the same key here and two keys behind the next proxy.
func rawKey(r *http.Request, prefix string) (string, error) {
	key, found := strings.CutPrefix(rawPath(r), prefix)
	if found && replication.ValidKey(key) == nil {
		return key, nil
	}
	if len(key) > 2*replication.MaxKeyBytes {
		return "", refuse(replication.ErrBadKey, "A key is 1 to %d ASCII letters and digits; this one has %d characters.", replication.MaxKeyBytes, len(key))
	}
	return "", refuse(replication.ErrBadKey, "A key is 1 to %d ASCII letters and digits, not %q.", replication.MaxKeyBytes, key)
}
