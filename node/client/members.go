package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Members is the cluster as one node sees it.
type Members struct {
	// Cluster is its name, Self the name of the node that answers.
	Cluster string `json:"cluster"`
	Self    string `json:"self"`
	// Known is how many members should exist, Alive how many of them do, Quorum the majority of Known.
	Known  int `json:"known"`
	Alive  int `json:"alive"`
	Quorum int `json:"quorum"`
	// Writable tells whether a put at the default level would pass now.
	Writable bool `json:"writable"`
	// SelfID is the identity of the node that answers.
	SelfID string `json:"self_id"`
	// Protected tells whether traffic between nodes is, by a secret; Exposed whether anybody on the network can read and
	// write everything at the node that answers.
	Protected bool `json:"protected"`
	Exposed   bool `json:"exposed"`
	// TLS tells whether clients have to come by TLS to the node that answers.
	TLS bool `json:"tls"`
	// Unready is why the node that answers is not ready, none if it is.
	Unready []Unready `json:"unready"`
	// Disk is that of the node that answers.
	Disk Disk `json:"disk"`
	// Tombstones is how many deleted keys the node that answers still keeps a mark of.
	Tombstones uint64 `json:"tombstones"`
	// Members are sorted by name. Those that join and learners are listed and are not among Known.
	Members []Member `json:"members"`
}

// Unready is a condition of being ready that does not hold.
type Unready struct {
	// Check names the condition as GET /-/ready does, such as "synced".
	Check string `json:"check"`
	// Why says in words what is wrong.
	Why string `json:"why"`
}

// Disk is how the data directory of a node is.
type Disk struct {
	// Free is how many bytes the node could still write there, Size how many the file system has; both 0 if not known.
	Free uint64 `json:"free"`
	Size uint64 `json:"size"`
	// Latched: a write or a sync failed, so that the node writes nothing until it is restarted. Full: there was no room
	// for the last value.
	Latched bool `json:"latched"`
	Full    bool `json:"full"`
	// Damaged is how many records cannot be read now.
	Damaged int `json:"damaged"`
}

// Member is one node as another one sees it.
type Member struct {
	// ID is its identity, 32 hexadecimal digits; Name is for people.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Address is the HOST:PORT that it is reached at.
	Address string `json:"address"`
	// State is joining, syncing, alive, suspect, failed, stopped or draining, since Since; Version is the release that
	// it runs.
	State   string    `json:"state"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	// RTT and ClockSkew are in milliseconds, 0 for the node that answers.
	RTT       float64 `json:"rtt_ms"`
	ClockSkew float64 `json:"clock_skew_ms"`
	// Keys is how many records it has, Behind how many writes it is not known to have.
	Keys   uint64 `json:"keys"`
	Behind uint64 `json:"behind"`
	// Synced tells whether its answers count for reads.
	Synced bool `json:"synced"`
	// Learner tells that it is not among Known yet, since it fetches what the others have.
	Learner bool `json:"learner,omitempty"`
	// Blocks is for how many tombstones the node that answers waits until it has heard that this one knows of them.
	Blocks uint64 `json:"blocks"`
	// Progress is how far one that catches up has got, nil for others.
	Progress *Progress `json:"progress,omitempty"`
}

// Progress is how many of the Offered keys a node that catches up has fetched.
type Progress struct {
	Pulled  uint64 `json:"pulled"`
	Offered uint64 `json:"offered"`
}

// Inspection is what every member has for one key.
type Inspection struct {
	Key string `json:"key"`
	// Winner is the version that a read of all would return, empty if there is none; Why says in words how it wins.
	Winner   string    `json:"winner"`
	Why      string    `json:"why"`
	Replicas []Replica `json:"replicas"`
}

// Replica is what one member has for a key.
type Replica struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// State is present, absent, deleted, damaged or unreachable.
	State string `json:"state"`
	// Version is set for what is present or deleted, Size in bytes and Checksum in hexadecimal for what is present.
	Version  string `json:"version"`
	Size     int64  `json:"size"`
	Checksum string `json:"checksum"`
	// Error says why it is damaged or unreachable.
	Error string `json:"error"`
}

// Members returns the cluster as the node that answers sees it.
func (c *Client) Members(ctx context.Context) (Members, error) {
	var m Members
	if err := c.decode(ctx, "/-/members", &m); err != nil {
		return Members{}, fmt.Errorf("members: %w", err)
	}
	return m, nil
}

// Inspect returns what every member has for key. It changes nothing, and that nobody has the key is no error.
func (c *Client) Inspect(ctx context.Context, key string) (Inspection, error) {
	path, err := escape(key)
	var found Inspection
	if err == nil {
		err = c.decode(ctx, "/-/inspect/"+path, &found)
	}
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect %s: %w", name(key), err)
	}
	return found, nil
}

// Raw returns the body of GET path as a node sends it. path begins with "/-/" and may have a query.
func (c *Client) Raw(ctx context.Context, path string) ([]byte, error) {
	a, err := c.do(ctx, request{method: http.MethodGet, path: path, want: http.StatusOK})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	return a.body, nil
}

func (c *Client) decode(ctx context.Context, path string, into any) error {
	a, err := c.do(ctx, request{method: http.MethodGet, path: path, want: http.StatusOK})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("%w: %w", ErrNotSnakes, err)
	}
	return nil
}
