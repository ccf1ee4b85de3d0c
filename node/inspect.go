package node

import (
	"crypto/sha256"
	"encoding/binary"
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

// digest reads the whole index of the store.
func (a *api) digest(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	answer := digestAnswer{Seen: make(map[string]string)}
	seen := a.Store.Seen()
	for _, origin := range seen.Origins() {
		answer.Seen[strconv.FormatUint(origin, 16)] = seen.Counters(origin)
	}
	var sum uint64
	for key, meta := range a.Store.Scan("") {
		if r.Context().Err() != nil {
			return fmt.Errorf("digest: %w", r.Context().Err())
		}
		if !meta.Deleted {
			sum ^= recordHash(key, meta.Version)
			answer.Keys++
		}
	}
	answer.Digest = fmt.Sprintf("%016x", sum)
	return w.send(http.StatusOK, "application/json", encodeLine(answer))
}

// recordHash returns 64 bits that key and version share with no others. They are combined by
// XOR, so that order plays no part and one record's share can be taken out again.
func recordHash(key string, v version.Version) uint64 {
	b := make([]byte, 0, version.Size+len(key))
	b, _ = v.AppendBinary(b) // the error is always nil; the fixed size comes first, so no two records share a form
	hash := sha256.Sum256(append(b, key...))
	return binary.BigEndian.Uint64(hash[:])
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
