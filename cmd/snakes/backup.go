package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/backup"
	"github.com/protocol7/snakes/node/client"
)

// moveSilence is for how long nothing of a backup may move, unless --timeout says otherwise: a node waits for what it
// lacks before it begins, and for slow members between two batches.
const moveSilence = 30 * time.Second

func (r *remote) backup() *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE|-", Short: "Save all keys to a file",
		Long: `Saves all keys, values and deletions of the cluster to FILE, or to standard output, while it runs: every write that was
acknowledged by a majority before. What comes is verified as it is saved, and FILE is there only once all of it is whole
and on the disk; nobody but its owner can read it. An existing FILE is replaced if that is confirmed, or --yes is given.
--timeout is for how long nothing may come, 30s if it is not given.`,
		Example:               "  snakes backup monday.backup\n  snakes backup - | ssh elsewhere 'cat > monday.backup'",
		Args:                  arguments("FILE|-"),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			var to destination = standardOutput{r.stdout}
			var err error
			if args[0] == "-" && isTerminal(r.stdout) {
				err = misused(cmd, "a backup is not for terminals; name a FILE")
			} else if args[0] != "-" {
				to, err = r.newFile(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			defer to.discard()
			servers, _ := r.addresses()
			return r.converse(cmd.Context(), servers, func(c *client.Client) error {
				return r.save(cmd.Context(), c, to, r.silence(cmd))
			})
		},
	}
}

func (r *remote) verify() *cobra.Command {
	return &cobra.Command{
		Use: "verify FILE|-", Short: "Look whether a backup is whole",
		Long: `Reads FILE, or standard input, from its beginning to its end, and says what is in it. A backup that was cut, or in
which a byte was changed, is refused: exit code 1. It asks no node.`,
		Example:               "  snakes verify monday.backup",
		Args:                  arguments("FILE|-"),
		Annotations:           asksNobody,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noClientFlags(cmd, "output"); err != nil {
				return err
			}
			in, err := r.openBackup(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			s, err := r.check(cmd.Context(), in)
			if err != nil {
				return err
			}
			return r.describe(s)
		},
	}
}

func (r *remote) restore() *cobra.Command {
	var options client.RestoreOptions
	cmd := &cobra.Command{
		Use: "restore FILE|-", Short: "Bring back what is in a backup",
		Long: `Merges the backup in FILE, or standard input, into the cluster at --server: keys that it lacks come back, with the
versions that they had. What is newer in the cluster stays, and what was deleted since the backup stays deleted. It can be
repeated, also after it was interrupted.

With --as-new every value of the backup is written as if it were put now, so that it wins over what its key has: to undo a
mistake. Keys that have that value already are left alone, and so are keys that did not exist then, deletions included.
It asks before it begins, unless --yes is given.

FILE is verified as a whole before anything is written. Standard input is verified as it comes: what is good is
restored before the rest is known.`,
		Example: `  snakes restore monday.backup --dry-run
  snakes restore monday.backup`,
		Args:                  arguments("FILE|-"),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := r.openBackup(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			what := "the backup"
			if args[0] != "-" {
				s, err := r.check(cmd.Context(), in)
				if err != nil {
					return err
				}
				what = fmt.Sprintf("the backup of cluster %s of %s", printable(s.Cluster), s.Time.UTC().Format(time.RFC3339))
			}
			if options.AsNew && !options.DryRun {
				if err := r.confirm(cmd.Context(), "restore --as-new overwrites what keys have now with what they have in "+what+"."); err != nil {
					return err
				}
			}
			servers, _ := r.addresses()
			return r.converse(cmd.Context(), servers, func(c *client.Client) error {
				return r.bringBack(cmd.Context(), c, in, options, r.silence(cmd))
			})
		},
	}
	cmd.Flags().BoolVar(&options.DryRun, "dry-run", false, "count what would be done, and do nothing")
	cmd.Flags().BoolVar(&options.AsNew, "as-new", false, "write the values anew, so that they win over what is there")
	return cmd
}

// silence returns for how long nothing may move, 0 for ever.
func (r *remote) silence(cmd *cobra.Command) time.Duration {
	if !cmd.Flags().Changed("timeout") {
		return moveSilence
	}
	return r.timeout
}

// saved is a backup that is whole.
type saved struct {
	backup.Header
	backup.Trailer
}

// text returns what is in it, for people.
func (s saved) text() string {
	return fmt.Sprintf("cluster %s, from %s, %s: %s, %s, %d bytes, digest %s", printable(s.Cluster), printable(s.Node), s.Time.UTC().Format(time.RFC3339),
		counted(s.Keys, "key"), counted(s.Deletions, "deletion"), s.Bytes, s.Digest)
}

// describe writes what is in a backup to standard output.
func (r *remote) describe(s saved) error {
	if r.output.value != "json" {
		return r.write([]byte(s.text() + "\n"))
	}
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return r.write(append(line, '\n'))
}

// counted returns "1 thing" or "n things".
func counted(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// save writes a backup to its destination, and verifies what it writes.
func (r *remote) save(ctx context.Context, c *client.Client, to destination, silence time.Duration) error {
	patient := newPatient(ctx, silence)
	defer patient.end()
	body, receipt, err := c.Backup(patient.ctx)
	if err != nil {
		return patient.because(err)
	}
	defer body.Close()
	moving := &moving{Reader: body, patient: patient, progress: newProgress(r.stderr, "backup")}
	header, trailer, err := backup.Verify(io.TeeReader(moving, to))
	moving.progress.clear()
	switch {
	case errors.Is(err, backup.ErrDamaged):
		return fmt.Errorf("backup: what came is not saved: %w", patient.because(err))
	case err != nil:
		return fmt.Errorf("backup: %w", patient.because(err))
	}
	if err := to.keep(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := r.written(receipt, nil); err != nil {
		return err
	}
	if _, piped := to.(standardOutput); piped {
		fmt.Fprintln(r.stderr, saved{header, trailer}.text())
		return nil
	}
	return r.describe(saved{header, trailer})
}

// input is a backup to be read.
type input struct {
	io.ReadCloser
	name string
	size int64 // 0: not known
}

// openBackup opens what was named, "-" for standard input.
func (r *remote) openBackup(name string) (*input, error) {
	if name == "-" {
		return &input{ReadCloser: io.NopCloser(r.stdin), name: "standard input"}, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	in := &input{ReadCloser: file, name: name}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		in.size = info.Size()
	}
	return in, nil
}

// check verifies a backup and goes back to its beginning, if it can.
func (r *remote) check(ctx context.Context, in *input) (saved, error) {
	moving := &moving{Reader: in, progress: newProgress(r.stderr, "verify"), size: in.size}
	var s saved
	done := make(chan error, 1)
	go func() { // a read that is interrupted goes on until the process ends: nothing else ends it
		var err error
		s.Header, s.Trailer, err = backup.Verify(moving)
		done <- err
	}()
	var err error
	select {
	case <-ctx.Done():
		return saved{}, errInterrupted
	case err = <-done:
	}
	moving.progress.clear()
	if err != nil {
		return s, fmt.Errorf("%s: %w", in.name, err)
	}
	if seeker, ok := in.ReadCloser.(io.Seeker); ok {
		_, err = seeker.Seek(0, io.SeekStart)
	}
	return s, err
}

// bringBack gives a backup to the cluster, and says what became of it.
func (r *remote) bringBack(ctx context.Context, c *client.Client, in *input, options client.RestoreOptions, silence time.Duration) error {
	patient := newPatient(ctx, silence)
	defer patient.end()
	moving := &moving{Reader: in, patient: patient, progress: newProgress(r.stderr, "restore"), size: in.size, sends: true}
	var body io.Reader = moving
	if seeker, ok := in.ReadCloser.(io.Seeker); ok {
		body = struct {
			io.Reader
			io.Seeker
		}{moving, seeker}
	}
	got, err := c.Restore(patient.ctx, body, options)
	moving.progress.clear()
	if err != nil {
		return patient.because(err)
	}
	if r.output.value == "json" {
		return r.write(got.Body)
	}
	return r.write([]byte(outcome(got) + "\n"))
}

// outcome returns what became of a backup, for people.
func outcome(r client.Restored) string {
	did, how := "restored", ""
	if r.DryRun {
		did = "would restore"
	}
	if r.AsNew {
		return fmt.Sprintf("%s %d of %s as new: %d have that value already, %s left out", did, r.Written, counted(r.Keys+r.Deletions, "record"),
			r.Present, counted(r.Skipped, "deletion"))
	}
	if r.Forgotten > 0 {
		how = fmt.Sprintf(", %d deleted since", r.Forgotten)
	}
	return fmt.Sprintf("%s %d of %s: %d there already, %d have something newer%s", did, r.Written, counted(r.Keys+r.Deletions, "record"), r.Present, r.Newer, how)
}
