package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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

// Repair tells the node that answers, which is not synced, to go on without what only members had that are not live.
// The *Error has the code "conflict" if it is synced. Of several servers any may be the one that answers, so there
// should be one.
func (c *Client) Repair(ctx context.Context) (Begun, error) {
	return c.begin(ctx, "repair", "/-/repair?accept-loss=1")
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
