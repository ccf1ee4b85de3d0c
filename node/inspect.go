package node

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// digestAnswer is the body of GET /-/digest.
type digestAnswer struct {
	Digest string            `json:"digest"`
	Keys   int               `json:"keys"`
	Seen   map[string]string `json:"seen"`
}

// digest answers from memory. While writes arrive, its parts may be of different instants.
func (a *api) digest(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	answer := digestAnswer{
		Digest: fmt.Sprintf("%016x", a.Store.Digest()),
		Keys:   a.Store.Len(),
		Seen:   make(map[string]string),
	}
	seen := a.Store.Seen()
	for _, origin := range seen.Origins() {
		answer.Seen[strconv.FormatUint(origin, 16)] = seen.Counters(origin)
	}
	return w.send(http.StatusOK, "application/json", encodeLine(answer))
}

// inspectAnswer is the body of GET /-/inspect/{key}.
type inspectAnswer struct {
	Key      string          `json:"key"`
	Winner   string          `json:"winner"`
	Why      string          `json:"why"`
	Replicas []replicaAnswer `json:"replicas"`
}

type replicaAnswer struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	State    string `json:"state"`
	Version  string `json:"version"`
	Size     int64  `json:"size"`
	Checksum string `json:"checksum"`
	Error    string `json:"error"`
}

func (a *api) inspect(w *response, r *http.Request) error {
	key, err := rawKey(r, "/-/inspect/")
	if err != nil {
		return err
	}
	if _, err := parameters(r); err != nil {
		return err
	}
	inspection, err := a.Coordinator.Inspect(r.Context(), key)
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	answer := inspectAnswer{
		Key: inspection.Key, Winner: versionText(inspection.Winner), Why: inspection.Why, Replicas: []replicaAnswer{},
	}
	for _, found := range inspection.Copies {
		answer.Replicas = append(answer.Replicas, describeCopy(found))
	}
	return w.send(http.StatusOK, "application/json", encodeLine(answer))
}

func describeCopy(found replication.Copy) replicaAnswer {
	answer := replicaAnswer{
		ID: found.ID, Name: found.Name, State: string(found.State),
		Version: versionText(found.Version), Size: found.Size,
	}
	if found.State == replication.CopyPresent {
		answer.Checksum = fmt.Sprintf("%08x", found.Checksum)
	}
	if found.Err != nil {
		answer.Error = publicCause(found.Err)
	}
	return answer
}

// versionText returns v as text, empty for no version.
func versionText(v version.Version) string {
	if v.IsZero() {
		return ""
	}
	return v.String()
}
