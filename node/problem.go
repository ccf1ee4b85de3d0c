package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
)

// What the HTTP side itself refuses a request for. Errors of this kind reach clients with the
// detail that refuse gave them.
var (
	errBadParameter   = errors.New("bad parameter")
	errBadHeader      = errors.New("bad header")
	errBadMessage     = errors.New("bad message")
	errNoResource     = errors.New("no such resource")
	errForbidden      = errors.New("forbidden")
	errUnauthorized   = errors.New("unauthorized")
	errHost           = errors.New("other host")
	errMethod         = errors.New("method not allowed")
	errTimeout        = errors.New("timeout")
	errLengthRequired = errors.New("length required")
	errTooLarge       = errors.New("too large")
	errMisdirected    = errors.New("another node was meant")
	errProtocol       = errors.New("other protocol between nodes")
	errUnsupported    = errors.New("unsupported")
	errPlain          = errors.New("plain HTTP where TLS is spoken")
	errInternal       = errors.New("internal error")
)

// errOverloaded: a request was not begun, since there is too much to do. From another node, it is as good as not sent: it had no
// effect there, and tells nothing against the node.
var errOverloaded = fmt.Errorf("overloaded: %w", replication.ErrNotSent)

// kind is what one sort of error looks like from outside.
type kind struct {
	// matches tells which errors are of this kind. The first kind that matches is taken.
	matches func(error) bool
	// name stands for the kind between nodes; cause is what it turns into at the other end, so
	// that errors.Is gives the same answer there as here.
	name  string
	cause error

	status int
	code   string
	title  string
	// detail is for errors that bring no text meant for clients. Others may hold file paths.
	detail string
}

// kinds is the one table from errors to answers. peers reads it backwards.
var kinds = []kind{
	// A quorum error that this node's own disk has a part in tells of that first.
	row(replication.ErrDiskFull, "disk-full", 507, "disk-full", "Disk full",
		"The disk of this node has no room for the write. Free some space, or delete keys."),
	row(replication.ErrReadOnly, "read-only", 503, "not-ready", "Node is read-only",
		"The disk of this node has seen an error, so it takes no writes until it is restarted. Send the request to another member."),
	{
		matches: isA[*replication.QuorumError], name: "quorum", cause: errInternal,
		status: http.StatusServiceUnavailable, code: "quorum", title: "Quorum not met",
	},
	{
		matches: isA[*membership.AmbiguousError], name: "ambiguous", cause: errInternal,
		status: http.StatusConflict, code: "conflict", title: "Name fits several members",
	},
	row(replication.ErrNotReady, "joining", 503, "not-ready", "Node is joining",
		"This node has not reached its cluster yet. Until then it serves r=1 and w=1 from itself alone; try again, or ask another member."),
	row(replication.ErrBehind, "behind", 503, "not-ready", "Node is behind",
		"This node waits for writes that other members have. Try again, or ask another member."),
	row(replication.ErrClosed, "stopping", 503, "not-ready", "Node is stopping", "This node is about to stop. Ask another member."),
	row(replication.ErrBadSpan, "bad-span", 400, "bad-parameter", "Bad parameter",
		"A prefix, or a key to go on after, is up to 255 ASCII letters and digits, and a page has 1 to 1000 keys."),
	row(replication.ErrBadKey, "bad-key", 400, "bad-key", "Bad key", "A key is 1 to 255 ASCII letters and digits."),
	row(replication.ErrNotFound, "not-found", 404, "not-found", "Not found", "There is no value under this key."),
	row(replication.ErrDamaged, "damaged", 500, "internal", "Record damaged",
		"The record of this key is damaged on this node. Read it from another member."),
	row(replication.ErrPullGone, "pull-gone", 410, "not-found", "Pull is gone", "The pull was closed; open it anew."),
	row(membership.ErrUnknownMember, "unknown-member", 404, "not-found", "No such member",
		"No member has this name or id. GET /-/members lists them."),
	row(membership.ErrMemberAlive, "member-alive", 409, "conflict", "Member is alive",
		"Only a member that is not alive can be forgotten. Stop it first."),
	row(errMaybeAlive, "maybe-alive", 409, "conflict", "Member may be alive",
		"This member does not answer, but has not failed yet. Repeat this in a few seconds, when GET /-/members shows it as failed."),
	row(membership.ErrLastMember, "last-member", 409, "conflict", "Last member",
		"This is the only member, so that there is nobody to leave the data to. Stop the node; a new cluster begins with an empty data directory."),
	row(errTooFewStay, "too-few-stay", 409, "conflict", "Too few members would stay", ""),
	row(membership.ErrNotMember, "not-member", 409, "conflict", "Not a member yet",
		"This node is still catching up and does not count yet, so that it has nothing to leave. Stop it, and then forget it: DELETE /-/members/NAME at a member."),
	row(errLeaving, "leaving", 409, "conflict", "Node is leaving", "This node leaves its cluster, which only stopping it calls off."),
	row(errSynced, "synced", 409, "conflict", "Node is synced", "This node has all that it should have; there is nothing to repair."),
	row(membership.ErrNotSynced, "not-synced", 503, "not-ready", "Member is catching up",
		"This member has to catch up before it takes part in changes of the cluster. Try again when GET /-/ready says so, or ask another member."),
	row(membership.ErrMinority, "minority", 409, "conflict", "No majority of members",
		"A majority of the members must accept this change, and fewer are live; nothing was changed. "+
			"Repeat it when more members are alive, or with ?force=1 if they never will be."),
	row(membership.ErrNoMajority, "no-majority", 409, "conflict", "No majority of members",
		"A majority of the members must accept this change and did not in time; it may still take effect. "+
			"Repeat it when more members are alive, or with ?force=1 if they never will be."),
	row(membership.ErrRemoved, "removed", 410, "removed", "Node was removed",
		"The asking node was removed from this cluster; it may return under a new id only."),
	row(membership.ErrOtherCluster, "other-cluster", 421, "misdirected", "Other cluster", "This node belongs to another cluster."),
	row(membership.ErrTwin, "twin", 409, "conflict", "Node id is taken", "Another live process has the same node id."),

	row(errBadParameter, "bad-parameter", 400, "bad-parameter", "Bad parameter", ""),
	row(errBadBackup, "bad-backup", 400, "bad-backup", "No whole backup", ""),
	row(errBadHeader, "bad-header", 400, "bad-header", "Bad header", ""),
	row(errBadMessage, "bad-message", 400, "bad-message", "Bad message between nodes", ""),
	row(errProtocol, "protocol", 400, "bad-header", "Other protocol between nodes", ""),
	row(errNoResource, "no-resource", 404, "not-found", "Not found", ""),
	row(errUnauthorized, "unauthorized", 401, "unauthorized", "Unauthorized", ""),
	row(errHost, "host", 421, "misdirected", "Other host", ""),
	row(errForbidden, "forbidden", 403, "forbidden", "Forbidden", ""),
	row(errMethod, "method", 405, "method-not-allowed", "Method not allowed", ""),
	row(errTimeout, "timeout", 408, "timeout", "Timeout", ""),
	row(errLengthRequired, "length-required", 411, "length-required", "Length required", ""),
	row(errPlain, "plain", 400, "bad-header", "Plain HTTP", "Client sent an HTTP request to an HTTPS server."),
	row(errTooLarge, "too-large", 413, "too-large", "Too large", ""),
	row(errMisdirected, "misdirected", 421, "misdirected", "Misdirected", ""),
	row(errOverloaded, "overloaded", 503, "overloaded", "Node is overloaded",
		"This node has more to do than it can do in time, and did nothing of this. Send the request again later, or to another member."),
	row(errUnsupported, "unsupported", 501, "unsupported", "Unsupported", ""),
	row(context.Canceled, "canceled", 408, "timeout", "Request ended early", "The request ended before its answer. Send it again."),
	row(context.DeadlineExceeded, "deadline", 503, "not-ready", "Took too long", "The node gave up waiting. Send the request again."),
}

// internal is the kind of all errors that no row of kinds matches.
var internal = row(errInternal, "internal", 500, "internal", "Internal error",
	"Something went wrong on the node; its log tells more under this request id.")

func row(cause error, name string, status int, code, title, detail string) kind {
	matches := func(err error) bool { return errors.Is(err, cause) }
	return kind{matches: matches, name: name, cause: cause, status: status, code: code, title: title, detail: detail}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// kindOf returns the kind of err, which is not nil.
func kindOf(err error) kind {
	for _, k := range kinds {
		if k.matches(err) {
			return k
		}
	}
	return internal
}

// causeNamed returns the error that stands for the kind called name by another node;
// errInternal if this release knows no such kind.
func causeNamed(name string) error {
	for _, k := range kinds {
		if k.name == name {
			return k.cause
		}
	}
	return errInternal
}

// refusal is an error with a detail that was written for whoever sent the request.
type refusal struct {
	cause  error
	detail string
}

// Error implements error.
func (r *refusal) Error() string { return r.cause.Error() + ": " + r.detail }

// Unwrap is for errors.Is and errors.As.
func (r *refusal) Unwrap() error { return r.cause }

// refuse returns an error of the cause's kind; the text tells the client what is wrong and
// what to do about it.
func refuse(cause error, format string, args ...any) error {
	return &refusal{cause: cause, detail: fmt.Sprintf(format, args...)}
}

// detailOf returns what to tell a client about err.
func detailOf(err error, k kind) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.detail
	}
	if e, ok := errors.AsType[*replication.QuorumError](err); ok && k.code == "quorum" {
		return quorumDetail(e)
	}
	if e, ok := errors.AsType[*membership.AmbiguousError](err); ok {
		return fmt.Sprintf("%s. Name the one you mean by its id.", e.Error())
	}
	return k.detail
}

// publicCause returns in a few words, fit for anybody, why another node gave no answer or not
// the one hoped for.
func publicCause(err error) string {
	if k := kindOf(err); k.name != internal.name {
		return strings.ToLower(k.title)
	}
	return "no answer"
}

func quorumDetail(e *replication.QuorumError) string {
	var b strings.Builder
	fmt.Fprintf(&b, "This needs %d of %s; ", e.Need, count(e.Known, "member", "members"))
	fmt.Fprintf(&b, "%s alive", count(e.Alive, "is", "are"))
	// Whoever was never asked did not fail to take part.
	asked := e.Alive >= e.Need && e.Written != replication.WrittenNo
	if asked || e.Acks > 0 {
		fmt.Fprintf(&b, " and %d took part in time", e.Acks)
	}
	b.WriteString(".")
	switch e.Written {
	case replication.WrittenNo:
		b.WriteString(" Nothing was written.")
	case replication.WrittenUnknown:
		b.WriteString(" Some may have the write, so it may be seen later.")
	}
	if len(e.Receipt.Missing) > 0 {
		fmt.Fprintf(&b, " Missing: %s.", strings.Join(e.Receipt.Missing, ", "))
	}
	b.WriteString(" Try again")
	if level := passingLevel(e); level != "" {
		parameter := "w"
		if e.Written == "" {
			parameter = "r"
		}
		fmt.Fprintf(&b, ", or ask for less with ?%s=%s", parameter, level)
	}
	return b.String() + "."
}

// count returns "1 one" or "n many".
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// passingLevel returns the highest level below the one that e missed that can be expected to
// pass now, as it is written in a query; empty if there is none.
func passingLevel(e *replication.QuorumError) string {
	reach := e.Alive
	if reach >= e.Need {
		reach = e.Acks // not all that look alive do answer
	}
	switch {
	case reach < 1, e.Op == "backup", e.Op == "restore": // these take no level
		return ""
	case reach > 1 && reach == replication.Majority(e.Known):
		return "quorum"
	}
	return strconv.Itoa(reach)
}

// problem is the body of an error answer, RFC 9457.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Node      string `json:"node"`
	RequestID string `json:"request_id"`
	*quorumFacts
}

type quorumFacts struct {
	Need  int `json:"need"`
	Alive int `json:"alive"`
	Known int `json:"known"`
	Acks  int `json:"acks"`
	// Written is absent for reads, else false or "unknown".
	Written any `json:"written,omitempty"`
}

// fail answers r with the problem that err is. Nothing may have been written to w before.
func (a *api) fail(w *response, r *http.Request, err error) {
	k := kindOf(err)
	w.err = err
	w.quiet = r.Context().Err() != nil || errors.Is(err, replication.ErrClosed) // the client has gone, or comes late: no failure
	if errors.Is(err, errOverloaded) {
		w.quiet = true // one line for all, that is not one more load
		a.Overload.Warn("requests are refused, since there are too many, too large ones, or too many connections")
	}
	p := problem{
		Type: "urn:snakes:error:" + k.code, Title: k.title, Status: k.status, Detail: detailOf(err, k),
		Node: a.Name, RequestID: w.id,
	}
	if e, ok := errors.AsType[*replication.QuorumError](err); ok {
		p.quorumFacts = &quorumFacts{Need: e.Need, Alive: e.Alive, Known: e.Known, Acks: e.Acks}
		switch e.Written {
		case replication.WrittenNo:
			p.Written = false
		case replication.WrittenUnknown:
			p.Written = string(e.Written)
		}
		w.receipt(e.Receipt)
	}
	if k.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if errors.Is(err, errPlain) { // in the words of net/http, for people: a program that got its scheme wrong expects no problem of ours
		w.Header().Set("Connection", "close")
		w.refuse(r, k.status, plainText, []byte(k.detail+"\n"))
		return
	}
	if isPagePath(r) && readsHTML(r) {
		w.refusePage(r, a.problemPage(p), k.status)
		return
	}
	w.refuse(r, k.status, "application/problem+json", encodeLine(p))
}

// refuse sends an answer while the client may still be sending its body. It goes out before
// the rest of the body is read, and then the body is read and thrown away within limits:
// closing the connection on unread data would take the answer away from a client that sends
// all before it reads. A client that waits for "100 Continue" gets the answer instead: net/http
// invites nobody any more once an answer is on its way.
func (w *response) refuse(r *http.Request, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.ContentLength == 0 {
		w.WriteHeader(status)
		_, _ = w.Write(body) // a client that is gone needs no answer
		return
	}
	control := http.NewResponseController(w)
	// Both calls fail only where no connection is behind w; then nothing needs to be drained.
	if control.EnableFullDuplex() != nil || control.SetReadDeadline(time.Now().Add(drainTime)) != nil {
		w.WriteHeader(status)
		_, _ = w.Write(body) // as above
		return
	}
	if r.ContentLength > drainBytes {
		h.Set("Connection", "close")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // as above
	if control.Flush() == nil {
		w.conn.now(waits)
		drain(r.Body)
	}
}

// encodeLine returns v as one line of JSON.
func encodeLine(v any) []byte {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // all values encoded here are structs of plain fields
	}
	return []byte(b.String())
}
