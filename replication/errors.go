package replication

import (
	"errors"
	"fmt"
	"strings"

	"github.com/protocol7/snakes/replication/version"
)

var (
	// ErrNotReady is wrapped by what a node answers that has not joined a cluster yet, and by
	// what one answers to a pull, or to a look-up for a read, that has not caught up itself.
	ErrNotReady = errors.New("node is not ready")
	// ErrPullGone is returned for a pull that the answering node does not know (any more).
	ErrPullGone = errors.New("pull is not open")
	// ErrNotSent is wrapped by errors of Peers for a request that did not leave this node, since too
	// many waited to or its context ended before. It tells nothing about the other node.
	ErrNotSent = errors.New("request was not sent")
	// ErrBehind is returned for a backup by a node that could not get in time what another one has.
	ErrBehind = errors.New("node lacks what another one has")
	// ErrClosed is returned by calls to a Coordinator after its Close.
	ErrClosed = errors.New("coordinator is closed")

	errSilent   = errors.New("no answer in time")
	errNonsense = errors.New("answer makes no sense")
	// errIncomplete ends a pull in which a record could not be read where it came from.
	errIncomplete = errors.New("a record could not be read there")
)

// Receipt says who took part in a request.
type Receipt struct {
	// Version is the version that was written or read; zero if there is none.
	Version version.Version
	// Acks is the number of replicas that took part in time, of the N that should exist: the
	// members of the roster in force.
	Acks, N int
	// Missing are the names of those of the N that are not live or failed in this request,
	// ascending; nil if there are none.
	Missing []string
}

// Written is what a failed write may have left behind.
type Written string

const (
	// WrittenNo: no replica has anything of the write and none will.
	WrittenNo Written = "no"
	// WrittenUnknown: some replicas may have it, and it may be seen later.
	WrittenUnknown Written = "unknown"
)

// QuorumError is returned by requests in which fewer replicas took part than the level needs.
// Its numbers are those of the roster in which the level was missed: the one in force, but for
// the short time in which the roster changes.
type QuorumError struct {
	// Op is "put", "delete", "get", "list", "backup" or "restore".
	Op string
	// Need is how many replicas the level asks for, Alive how many members can be asked,
	// Known how many should exist, Acks how many took part in time.
	Need, Alive, Known, Acks int
	// Written is empty for reads.
	Written Written
	// Receipt is the same in the terms of the roster in force.
	Receipt Receipt
	// Causes are the failures of single replicas, ascending by id.
	Causes []Cause
	// Err is nil, or the error of the caller's context that ended before the level was met.
	Err error
}

// Cause is why one replica took no part.
type Cause struct {
	ID, Name string
	// Self: it is the coordinator's own store.
	Self bool
	Err  error
}

// Error implements error.
func (e *QuorumError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d of %d replicas needed took part, %d of %d members can be asked",
		e.Op, e.Acks, e.Need, e.Alive, e.Known)
	for _, cause := range e.Causes {
		fmt.Fprintf(&b, "; %s: %v", cause.Name, cause.Err)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, "; %v", e.Err)
	}
	return b.String()
}

// Unwrap returns why this node's own store took no part and why the wait ended, if either is
// so. Other replicas' causes stay out: that a peer's disk is full is no news about this one.
func (e *QuorumError) Unwrap() []error {
	var errs []error
	for _, cause := range e.Causes {
		if cause.Self {
			errs = append(errs, cause.Err)
		}
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}
