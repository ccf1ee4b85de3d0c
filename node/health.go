package node

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/node/metrics"
	"github.com/protocol7/snakes/node/ui"
	"github.com/protocol7/snakes/replication"
)

// index is for people who look around with curl.
const index = `snakes: a replicated key-value store

GET    /KEY[?r=one|quorum|all|NUMBER]     the value
PUT    /KEY[?w=one|quorum|all|NUMBER]     store the body as the value
DELETE /KEY[?w=one|quorum|all|NUMBER]     delete the key

GET    /-/ui/                             the cluster on a page, for browsers
GET    /-/members[?format=text]           who is in the cluster
DELETE /-/members/NAME-OR-ID[?force=1]    forget a member that will not come back
GET    /-/healthy                         200 while this node serves
GET    /-/ready                           200 while this node can do its work, else why not
GET    /-/digest                          the same on all nodes that have the same keys
GET    /-/inspect/KEY                     what each node has for the key
GET    /-/metrics                         how this node is doing, for Prometheus
GET    /-/keys[?prefix=&after=&limit=&r=] the keys in order, 100 at a time
GET    /-/watch[?prefix=]                 what changes, as server-sent events
GET    /-/events[?follow=0]               what happened to this node of late, the same way
PUT    /-/log-level                       trace, debug, info, warn or error; GET tells which
GET    /-/backup                          all keys, to be kept
POST   /-/restore[?dry-run=1&as-new=1]    the body is such a backup; what is newer stays
POST   /-/drain                           have clients and members choose others than this node
POST   /-/undrain                         and call that off
POST   /-/leave                           have this node leave the cluster for good, and end
POST   /-/repair?accept-loss=1            have this node go on without what nobody alive has

A KEY is 1 to 255 ASCII letters and digits.
`

func (a *api) index(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	w.Header().Set("Vary", "Accept")
	if readsHTML(r) {
		w.Header().Set("Location", ui.Root)
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	return w.send(http.StatusOK, plainText, []byte(index))
}

func (a *api) healthy(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	return w.send(http.StatusOK, plainText, []byte("healthy\n"))
}

// ready is asked every second or so by whatever spreads clients over nodes; it answers in
// text, and a no is no line in the log.
func (a *api) ready(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	status := http.StatusOK
	var text strings.Builder
	for _, check := range a.checks() {
		if check.err == nil {
			fmt.Fprintf(&text, "[+] %s\n", check.name)
			continue
		}
		status = http.StatusServiceUnavailable
		fmt.Fprintf(&text, "[-] %s: %v\n", check.name, check.err)
	}
	if a.Exposed {
		text.WriteString("[!] INSECURE: anybody who reaches this node can read and write everything\n")
	}
	if status != http.StatusOK {
		w.quiet = true
		w.Header().Set("Retry-After", "1")
	}
	return w.send(status, plainText, []byte(text.String()))
}

// isReady reports whether ready would say so.
func (a *api) isReady() bool {
	return !slices.ContainsFunc(a.checks(), func(c check) bool { return c.err != nil })
}

func (a *api) metrics(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := a.Metrics.Write(&text); err != nil {
		return err
	}
	return w.send(http.StatusOK, metrics.ContentType, text.Bytes())
}

// check is one condition of being ready; err says, fit for anybody to read, why it does not hold.
type check struct {
	name string
	err  error
}

func (a *api) checks() []check {
	s := a.Cluster.Snapshot()
	self, _ := s.Member(a.Self)
	joined, synced, staying := error(nil), error(nil), error(nil)
	if !s.Joined() {
		joined = errors.New("no member of the cluster was reached yet")
	}
	if !self.Synced || !self.Counted {
		synced = errors.New("this node catches up with the others")
		switch p := a.Syncer.Progress(); {
		case p.Offered > 0:
			synced = fmt.Errorf("%w, and has fetched %d of %d keys", synced, p.Pulled, p.Offered)
		case p.Awaited > 0:
			synced = fmt.Errorf("%w, and waits until %s back with what they have; if that will never be, see snakes repair",
				synced, count(p.Awaited, "more member is", "more members are"))
		}
	}
	if self.State == membership.Draining {
		staying = errors.New("this node is about to stop or to leave")
	}
	if a.Drained() {
		staying = errors.New("this node is drained; a restart ends that, or POST /-/undrain")
	}
	return []check{
		{"joined", joined},
		{"synced", synced},
		{"disk writable", public(a.Store.Writable())},
		{"default write level reachable", reachable(a.Coordinator.Writable())},
		{"clock", a.Monitor.Skew()},
		{"staying", staying},
	}
}

// reachable returns what anybody may read of err, which says why a write would not pass now. It speaks of no write: none
// was tried.
func reachable(err error) error {
	e, ok := errors.AsType[*replication.QuorumError](err)
	if !ok || kindOf(err).code != "quorum" {
		return public(err)
	}
	missing := ""
	if names := e.Receipt.Missing; len(names) > 0 {
		missing = "; missing: " + strings.Join(names, ", ")
	}
	return fmt.Errorf("a plain PUT needs %d of %s; %s alive%s", e.Need, count(e.Known, "member", "members"), count(e.Alive, "is", "are"), missing)
}

// public returns what anybody may read of err: the same that an error answer would say.
func public(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(detailOf(err, kindOf(err)))
}
