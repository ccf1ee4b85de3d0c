package membership

import (
	"encoding/json"
	"fmt"

	"github.com/hashicorp/memberlist"
)

// info is what a node tells about itself. It rides in gossip, so it is small.
type info struct {
	Name    string `json:"n"`
	Address string `json:"a"`
	Version string `json:"v,omitempty"`
	// Cluster is the id of the cluster whose roster it goes by; empty while joining.
	Cluster string `json:"c,omitempty"`
	// Counted: it is a member of that cluster, not a learner in it.
	Counted bool `json:"m,omitempty"`
	// Seeks: it would rather be in another cluster than in its own, which is just itself.
	Seeks    bool `json:"s,omitempty"`
	Synced   bool `json:"y,omitempty"`
	Draining bool `json:"d,omitempty"`
	Stopped  bool `json:"x,omitempty"`
	// At is when the node made this, in nanoseconds of its own wall clock: of two infos of one
	// node the later counts.
	At int64 `json:"t"`
}

// sameButTime reports whether a and b tell the same.
func sameButTime(a, b info) bool {
	a.At, b.At = 0, 0
	return a == b
}

// encode returns the form that rides in gossip. The limits on Config's fields keep it below
// memberlist's own, above which memberlist panics; see TestInfoFitsIntoGossip.
func (i info) encode() []byte {
	b, err := json.Marshal(i)
	if err != nil || len(b) > memberlist.MetaMaxSize {
		panic(fmt.Sprintf("membership: info of %d bytes: %v", len(b), err)) // Validate has let through what it must not
	}
	return b
}

func decodeInfo(b []byte) (info, error) {
	var i info
	if err := json.Unmarshal(b, &i); err != nil {
		return info{}, fmt.Errorf("read what a member says of itself: %w", err)
	}
	return i, i.validate()
}

// validate returns nil, or an error for what no node says of itself.
func (i info) validate() error {
	if validAddress(i.Address) != nil || !namePattern.MatchString(i.Name) || len(i.Version) > 32 || i.Cluster != "" && !idPattern.MatchString(i.Cluster) {
		return fmt.Errorf("member says nonsense of itself: %.200q", fmt.Sprint(i))
	}
	return nil
}
