package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Happening is something that happened to a node, as its log has it.
type Happening struct {
	// ID names it among those of one process.
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// Level is info, warn or error; Part is what it happened to, such as membership; What says it in constant words and
	// Facts what they leave open.
	Level string            `json:"level"`
	Part  string            `json:"part"`
	What  string            `json:"what"`
	Facts map[string]string `json:"facts"`
}

// Events returns the last of what happened to the node that answers, ascending: 500 at most, since its start. Of several
// servers any may be the one that answers.
func (c *Client) Events(ctx context.Context) ([]Happening, error) {
	a, err := c.do(ctx, request{method: http.MethodGet, path: "/-/events?follow=0", want: http.StatusOK})
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	var all []Happening
	for block := range strings.SplitSeq(string(a.body), "\n\n") {
		var h Happening
		for line := range strings.SplitSeq(block, "\n") {
			if data, found := strings.CutPrefix(line, "data: "); found {
				if err := json.Unmarshal([]byte(data), &h); err != nil {
					return nil, fmt.Errorf("events: %w: %w", ErrNotSnakes, err)
				}
			} else if id, found := strings.CutPrefix(line, "id: "); found {
				h.ID = id
			}
		}
		if h.What != "" {
			all = append(all, h)
		}
	}
	return all, nil
}
