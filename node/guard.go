package node

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/protocol7/snakes/node/token"
	"github.com/protocol7/snakes/node/ui"
)

// guard returns nil if r may go on to its route, or why not. It looks at where r comes from and who sent it, never at
// what is asked for beyond that; paths between nodes have a guard of their own, provenPeer.
func (a *api) guard(w *response, r *http.Request) error {
	if a.TLS && r.TLS == nil {
		return errPlain
	}
	if !a.knownHost(r.Host) {
		return refuse(errHost, "This node listens on this machine only and is not called %q; a page of another site may have been given its address. "+
			"Ask it at localhost, or start it with --advertise and the name that it has.", shortened(r.Host))
	}
	if err := a.origins.Check(r); err != nil {
		return refuse(errForbidden, "A page of another site asked for this. Only pages of this node may change anything from a browser.")
	}
	if isPeerPath(r) {
		return nil
	}
	need := roleFor(r)
	if a.Tokens != nil {
		return a.authorize(w, r, need)
	}
	if need == token.Admin && !fromThisMachine(r) {
		return refuse(errForbidden, "What changes the cluster, or copies all of it, is for this machine only, and not through a proxy. "+
			"Ask for it on the machine of this node, or start the node with --token-file and show an admin token.")
	}
	return nil
}

// knownHost reports whether a request with this header Host may be meant for this node. A node on loopback is asked by
// programs of this machine, among them browsers; a site whose name was turned to a loopback address would be of the same
// origin as the node for them, but the name gives it away.
func (a *api) knownHost(host string) bool {
	if len(a.Hosts) == 0 || host == "" { // browsers always send one
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(withoutBrackets(host)), ".")
	return isLoopback(host) || strings.HasSuffix(host, ".localhost") || slices.Contains(a.Hosts, host)
}

// ownHosts returns the names besides those of loopback by which a node that listens on loopback is asked for; none for
// one that listens to the network, where names are given by others.
func (n *Node) ownHosts() []string {
	if !isLoopback(n.cfg.Bind) {
		return nil
	}
	host, _, _ := net.SplitHostPort(n.address) // it was made of a host and a port
	return []string{strings.ToLower(host), n.name}
}

// isPeerPath reports whether r is for a path between nodes.
func isPeerPath(r *http.Request) bool { return strings.HasPrefix(rawPath(r), peerPath) }

// roleFor returns what role a request needs. A path that is not known here needs the highest.
func roleFor(r *http.Request) token.Role {
	path := rawPath(r)
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	switch {
	case path == "/-/backup", r.URL.Path == "/-/backup":
		return token.Admin // all there is, at once
	case reads && slices.Contains([]string{"", "/", "/-/", "/-/healthy", "/-/ready"}, path):
		return token.None // for whoever looks after the process, and who looks around
	case reads:
		return token.Read
	case strings.HasPrefix(path, "/-"), strings.HasPrefix(r.URL.Path, "/-"):
		return token.Admin
	}
	return token.Write
}

// authorize returns nil if r shows a token for the role that it needs.
func (a *api) authorize(w *response, r *http.Request, need token.Role) error {
	if need == token.None {
		return nil
	}
	const challenge = `Bearer realm="snakes"`
	shown, present := shownToken(r)
	role := token.None
	if present {
		role = a.Tokens.Role(shown)
	}
	switch {
	case role >= need:
		return nil
	case role == token.None && isPagePath(r):
		// A browser asks for a token then, and shows it with all that belongs to the page.
		w.Header().Set("WWW-Authenticate", `Basic realm="snakes: any name, and a token as the password", charset="UTF-8"`)
		return refuse(errUnauthorized, "This page needs a token: give it as the password; the name does not matter.")
	case !present:
		w.Header().Set("WWW-Authenticate", challenge)
		return refuse(errUnauthorized, "This needs a token: send it as a header, Authorization: Bearer TOKEN.")
	case role == token.None:
		w.Header().Set("WWW-Authenticate", challenge+`, error="invalid_token"`)
		return refuse(errUnauthorized, "This node does not know the token.")
	}
	w.Header().Set("WWW-Authenticate", challenge+`, error="insufficient_scope"`)
	return refuse(errForbidden, "This needs a token for %s, and the one that was sent is for %s.", need, role)
}

// shownToken returns the token that r shows. Browsers show one as a password, and do so again by themselves, so that this
// is taken for the page alone.
func shownToken(r *http.Request) (shown string, present bool) {
	if isPagePath(r) {
		if _, password, given := r.BasicAuth(); given {
			return password, true
		}
	}
	return strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// isPagePath reports whether r is for the operators' page or what belongs to it.
func isPagePath(r *http.Request) bool {
	path := rawPath(r)
	return path == strings.TrimSuffix(ui.Root, "/") || strings.HasPrefix(path, ui.Root)
}

// mayChangeCluster reports whether whoever sent r may do what changes the cluster.
func (a *api) mayChangeCluster(r *http.Request) bool {
	if a.Tokens == nil {
		return fromThisMachine(r)
	}
	shown, _ := shownToken(r)
	return a.Tokens.Role(shown) >= token.Admin
}

// fromThisMachine reports whether a program of this machine sent r, and not a proxy on behalf of somebody else: a proxy
// says so in headers, or speaks an HTTP that clients have not spoken for long.
func fromThisMachine(r *http.Request) bool {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !r.ProtoAtLeast(1, 1) {
		return false
	}
	for name := range r.Header {
		if name == "Forwarded" || name == "Via" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return false
		}
	}
	// What comes from the address that it came to has left no machine.
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	from := remote.Addr().Unmap()
	return from.IsLoopback() || local != nil && local.AddrPort().Addr().Unmap() == from
}
