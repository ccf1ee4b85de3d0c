package node

import (
	"errors"
	"fmt"
	"net/http"
)

// errLeaving is the answer to whoever calls a drain off that is part of leaving.
var errLeaving = errors.New("node is leaving")

// Drain implements operations.
func (n *Node) Drain() error {
	n.draining.Lock()
	defer n.draining.Unlock()
	if !n.drained.Swap(true) {
		n.logger.Info("drained: other nodes are to be chosen, until a restart or undrain")
	}
	n.membership.SetDraining(true)
	n.streams.end() // their clients go on elsewhere
	return nil
}

// Undrain implements operations.
func (n *Node) Undrain() error {
	n.draining.Lock()
	defer n.draining.Unlock()
	if n.leaving.Load() {
		return errLeaving
	}
	if n.drained.Swap(false) {
		n.logger.Info("undrained: this node may be chosen again")
	}
	n.membership.SetDraining(false)
	return nil
}

// goAway has other nodes choose others than this one, which leaves.
func (n *Node) goAway() {
	n.draining.Lock()
	defer n.draining.Unlock()
	n.membership.SetDraining(true)
}

// stay has other nodes choose this one again, which does not leave, unless it is drained.
func (n *Node) stay() {
	n.draining.Lock()
	defer n.draining.Unlock()
	n.membership.SetDraining(n.drained.Load())
	n.leaving.Store(false)
}

func (a *api) drain(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	if err := a.Operations.Drain(); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return a.begin(w, "This node is not ready from now on, so that clients and other members choose others. It stays a member, takes what "+
		"others write, and answers whoever still comes. A restart ends that, and so does POST /-/undrain.")
}

func (a *api) undrain(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	if err := a.Operations.Undrain(); err != nil {
		return fmt.Errorf("undrain: %w", err)
	}
	return a.begin(w, "Clients and other members may choose this node again; GET /-/ready tells whether it is ready.")
}
