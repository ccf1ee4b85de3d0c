package node

import (
	"errors"
	"fmt"
	"net/http"
)

// operations are what an operator can have this node do.
type operations interface {
	// Leave has the node begin to leave its cluster, if it has not begun yet, and returns. An
	// error means that it does not: replication.ErrNotReady, membership.ErrLastMember or
	// ErrNotMember, or *replication.QuorumError if there is no majority that could agree now.
	Leave() error
	// Drain has clients and other members choose others from now on, until a restart or Undrain.
	// It may be repeated. Undrain: errLeaving if the node leaves.
	Drain() error
	Undrain() error
	// AcceptLoss has a node that is not synced go on with what the members that are live can
	// give it. Errors: replication.ErrNotReady, errSynced.
	AcceptLoss() error
}

// errSynced is the answer to a repair of a node that needs none.
var errSynced = errors.New("node is synced")

// begun is the body of an answer to what goes on after the answer.
type begun struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

func (a *api) begin(w *response, detail string) error {
	return w.send(http.StatusAccepted, "application/json", encodeLine(begun{a.Self, a.Name, detail}))
}

func (a *api) leave(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	if err := a.Operations.Leave(); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return a.begin(w, "This node takes no more writes. Once the others have all that it has, it leaves the cluster "+
		"for good, so that there is one member less, and ends. Until then it stays a member, "+
		"and stopping it keeps it one.")
}

func (a *api) repair(w *response, r *http.Request) error {
	given, err := parameters(r, "accept-loss")
	if err != nil {
		return err
	}
	if given["accept-loss"] != "1" {
		return refuse(errBadParameter, "A repair needs ?accept-loss=1: this node then counts as synced once it has what the "+
			"members have that are live, and what only others had is lost. It is for when those never come back.")
	}
	if err := a.Operations.AcceptLoss(); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	return a.begin(w, "This node goes on without what only members had that are not live. It fetches what the live ones have, "+
		"and counts as synced then; GET /-/ready tells when.")
}
