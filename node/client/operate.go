package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Begun is what a node answers that has begun to do something which goes on after the answer.
type Begun struct {
	// ID and Name are those of the node.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Detail says in words what will happen.
	Detail string `json:"detail"`
	// Body is the answer as it came.
	Body []byte `json:"-"`
}

// Leave tells the node that answers to leave its cluster for good and to end. It goes on after the answer; a node that
// leaves already answers the same. The only member does not leave: the *Error has the code "conflict". Of several
// servers any may be the one that answers, so there should be one.
func (c *Client) Leave(ctx context.Context) (Begun, error) { return c.begin(ctx, "leave", "/-/leave") }

// Drain has clients and other members choose others than the node that answers, until it is restarted or Undrain. It
// stays a member and goes on answering. Of several servers any may be the one that answers, so there should be one.
func (c *Client) Drain(ctx context.Context) (Begun, error) { return c.begin(ctx, "drain", "/-/drain") }

// Undrain calls a drain off. The *Error has the code "conflict" if the node leaves its cluster.
func (c *Client) Undrain(ctx context.Context) (Begun, error) {
	return c.begin(ctx, "undrain", "/-/undrain")
}

// Repair tells the node that answers, which is not synced, to go on without what only members had that are not live.
// The *Error has the code "conflict" if it is synced. Of several servers any may be the one that answers, so there
// should be one.
func (c *Client) Repair(ctx context.Context) (Begun, error) {
	return c.begin(ctx, "repair", "/-/repair?accept-loss=1")
}

// Forget has the cluster count no longer on the member with a name or id, which is not alive and will not come back. It
// needs a majority of the members; with force it does not, which is for when the others are lost for ever. The *Error
// has the code "not-found" if there is no such member, and "conflict" if it is or may be alive, if the name fits several,
// and if there is no majority.
func (c *Client) Forget(ctx context.Context, nameOrID string, force bool) error {
	path := "/-/members/" + url.PathEscape(nameOrID)
	if force {
		path += "?force=1"
	}
	if _, err := c.do(ctx, request{method: http.MethodDelete, path: path, want: http.StatusNoContent}); err != nil {
		return fmt.Errorf("forget %s: %w", nameOrID, err)
	}
	return nil
}

func (c *Client) begin(ctx context.Context, what, path string) (Begun, error) {
	a, err := c.do(ctx, request{method: http.MethodPost, path: path, want: http.StatusAccepted})
	if err != nil {
		return Begun{}, fmt.Errorf("%s: %w", what, err)
	}
	b := Begun{Body: a.body}
	if err := json.Unmarshal(a.body, &b); err != nil {
		return Begun{}, fmt.Errorf("%s: %w: %w", what, ErrNotSnakes, err)
	}
	return b, nil
}
