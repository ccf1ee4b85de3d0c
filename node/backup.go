package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/protocol7/snakes/node/backup"
	"github.com/protocol7/snakes/replication"
)

const (
	// backupChunk is how much of a backup goes out at once.
	backupChunk = 64 << 10
	// restoreRecords and restoreBytes are how much is restored at once, as in a pull.
	restoreRecords = replication.DefaultPageRecords
	restoreBytes   = replication.DefaultPageBytes
)

// errBadBackup is for bodies that are no whole backup.
var errBadBackup = errors.New("not a whole backup")

// backup answers with everything. An answer that ends early was cut off on purpose and has no trailer.
func (a *api) backup(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	began := time.Now().UTC()
	from, receipt, err := a.Coordinator.Backup(r.Context())
	w.receipt(receipt)
	if err != nil {
		return err // it says by itself what failed
	}
	s := a.Cluster.Snapshot()
	self, _ := s.Member(a.Self)
	header := backup.Header{
		Cluster: s.Cluster, ClusterID: s.ClusterID, Node: a.Name, NodeID: a.Self, Release: self.Version, Time: began,
	}
	h := w.Header()
	h.Set("Content-Type", backup.ContentType)
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%s.backup"`, s.Cluster, began.Format("20060102T150405Z")))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // nginx would take what a slow client does not
	w.quiet = true                   // that it goes on for long is its nature
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	out := &patientWriter{w: w, control: http.NewResponseController(w), stall: a.Stall}
	if err := writeBackup(r.Context(), out, header, from); err != nil {
		if out.err == nil {
			a.Log.Error("backup ends early", "request_id", w.id, "error", err)
		}
		w.err = err
		panic(http.ErrAbortHandler) // so that nobody takes it for whole
	}
	_ = out.control.SetWriteDeadline(time.Time{}) // it fails only where there is no connection
	return nil
}

func writeBackup(ctx context.Context, to io.Writer, header backup.Header, from *replication.Backup) error {
	buffered := bufio.NewWriterSize(to, backupChunk)
	out, err := backup.NewWriter(buffered, header, from.Seen())
	if err != nil {
		return err
	}
	for record, err := range from.Records(ctx) {
		if err == nil {
			err = out.Write(record)
		}
		if err != nil {
			return err
		}
	}
	if _, err := out.Close(from.Collected()); err != nil {
		return err
	}
	return buffered.Flush()
}

// patientWriter gives its client so long to take each chunk. Nothing is buffered for one that takes nothing.
type patientWriter struct {
	w       io.Writer
	control *http.ResponseController
	stall   time.Duration
	err     error // the client is gone, or too slow
}

// Write implements io.Writer.
func (p *patientWriter) Write(data []byte) (written int, err error) {
	for p.err == nil && written < len(data) {
		if p.err = p.control.SetWriteDeadline(time.Now().Add(p.stall)); p.err != nil {
			break
		}
		var n int
		n, p.err = p.w.Write(data[written:min(len(data), written+backupChunk)])
		written += n
	}
	return written, p.err
}

// restored is the body of an answer to POST /-/restore.
type restored struct {
	Cluster   string    `json:"cluster"`
	Node      string    `json:"node"`
	Time      time.Time `json:"time"`
	Keys      uint64    `json:"keys"`
	Deletions uint64    `json:"deletions"`
	Bytes     uint64    `json:"bytes"`
	// Written and those after it add up to Keys and Deletions.
	Written   uint64 `json:"written"`
	Present   uint64 `json:"present"`
	Newer     uint64 `json:"newer"`
	Forgotten uint64 `json:"forgotten"`
	Skipped   uint64 `json:"skipped"`
	DryRun    bool   `json:"dry_run"`
	AsNew     bool   `json:"as_new"`
}

// restore takes a backup, which is verified as it comes: what is good is restored before the rest is known.
func (a *api) restore(w *response, r *http.Request) error {
	given, err := parameters(r, "dry-run", "as-new")
	if err != nil {
		return err
	}
	for name, value := range given {
		if value != "1" {
			return refuse(errBadParameter, "%s is 1 or left out, not %q.", name, shortened(value))
		}
	}
	options := replication.RestoreOptions{DryRun: given["dry-run"] == "1", AsNew: given["as-new"] == "1"}
	restore, err := a.Coordinator.Restore(options)
	if err != nil {
		return err // it says by itself what failed
	}
	w.quiet = true
	in := &patientReader{w: w, body: r.Body, fresh: true}
	from, err := backup.NewReader(in)
	if err == nil {
		err = restoreFrom(r.Context(), from, in, restore)
	}
	counts := restore.Counts()
	switch {
	case err == nil:
	case errors.Is(err, backup.ErrDamaged), errors.Is(err, backup.ErrFormat):
		return refuse(errBadBackup, "%v. %s", err, soFar(options, counts))
	case errors.Is(in.err, os.ErrDeadlineExceeded):
		return refuse(errTimeout, "Less than %d bytes of the backup, or of the rest of it, came within %v. %s", progressBytes, progressTime, soFar(options, counts))
	case in.err != nil:
		return refuse(errBadHeader, "The body ended before its end. %s", soFar(options, counts))
	default:
		return err
	}
	w.clearReadDeadline()
	header, trailer := from.Header(), from.Trailer()
	a.Log.Info("backup restored", "cluster", header.Cluster, "time", header.Time, "written", counts.Written, "present", counts.Present,
		"newer", counts.Newer, "forgotten", counts.Forgotten, "skipped", counts.Skipped, "dry_run", options.DryRun, "as_new", options.AsNew)
	return w.send(http.StatusOK, "application/json", encodeLine(restored{
		Cluster: header.Cluster, Node: header.Node, Time: header.Time,
		Keys: trailer.Keys, Deletions: trailer.Deletions, Bytes: trailer.Bytes,
		Written: counts.Written, Present: counts.Present, Newer: counts.Newer, Forgotten: counts.Forgotten, Skipped: counts.Skipped,
		DryRun: options.DryRun, AsNew: options.AsNew,
	}))
}

// soFar says what was done when a restore ended early.
func soFar(options replication.RestoreOptions, counts replication.Restored) string {
	if options.DryRun || counts.Written == 0 {
		return "Nothing was written."
	}
	return fmt.Sprintf("Before that %s written; nothing needs to be undone.", count(int(counts.Written), "record was", "records were"))
}

// restoreFrom restores what comes, batch by batch, so that it comes no faster than it is written.
func restoreFrom(ctx context.Context, from *backup.Reader, in *patientReader, to *replication.Restore) error {
	var batch []replication.Record
	bytes := 0
	for {
		record, err := from.Next()
		size := len(record.Key) + len(record.ContentType) + len(record.Value)
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended {
			return err
		}
		if len(batch) > 0 && (ended || len(batch) == restoreRecords || bytes+size > restoreBytes) {
			if err := to.Apply(ctx, batch); err != nil {
				return err
			}
			in.fresh = true
			batch, bytes = nil, 0 // whoever is slow may still read the one before
		}
		if ended {
			return to.Finish(from.Seen(), from.Collected())
		}
		batch, bytes = append(batch, record), bytes+size
	}
}

// patientReader gives its client as long for each part of a body as others have. Time in which nothing was read does not
// count.
type patientReader struct {
	w       *response
	body    io.Reader
	fresh   bool // there was a pause on this side
	arrived int  // since the deadline was set
	err     error
}

// Read implements io.Reader.
func (p *patientReader) Read(b []byte) (int, error) {
	if p.fresh || p.arrived >= progressBytes {
		p.w.extendReadDeadline()
		p.fresh, p.arrived = false, 0
	}
	n, err := p.body.Read(b)
	p.arrived += n
	switch {
	case errors.Is(err, io.EOF):
		p.w.clearReadDeadline() // net/http goes on reading, and would end the request when it passes
	case err != nil:
		p.err = err
	}
	return n, err
}
