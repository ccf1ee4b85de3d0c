package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/node/verdict"
)

const (
	// statusPace is how often a status is looked at that is waited for.
	statusPace = 200 * time.Millisecond
	// statusPatience is for how long --wait waits if --timeout is not given.
	statusPatience = time.Minute
)

// ended is how a command ends that has said all there is to say, with an exit code of its own.
type ended struct{ code int }

// Error is for errors.Is and its like; it is not shown.
func (e *ended) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func (r *remote) status() *cobra.Command {
	var wait string
	var quiet bool
	cmd := &cobra.Command{
		Use: "status [--wait ready|alive=N] [-q]", Short: "Is the cluster well, who is missing, do writes pass?",
		Long: `Asks the nodes at --server and all members that they know, and shows on one screen how the cluster is: a verdict, who
is missing since when, who lacks what, and for each problem the command line for the next step. The verdicts:

  OK         every member does its work
  INSECURE   so it is, but anybody on the network can read and write everything
  DEGRADED   somebody is missing or ailing; reads and writes pass
  SPLIT      members run that do not reach each other
  NO WRITES  no node that answers takes a write

Exits with 0 if it is OK or INSECURE, with 1 if it is DEGRADED or SPLIT, with 4 if there are NO WRITES and with 5 if no
server answers.

With --wait it asks again and again: "ready" until every member is alive and ready, "alive=3" until every node that
answers sees so many alive. It then exits with 0, and with 4 if that has not come after --timeout, 1m if it is not given.

With -q it prints nothing and is about a node at --server alone, for health checks: it exits with 0 if that one is ready, with 4
if it is not and with 5 if it does not answer. Others may be missing: no node gets better by another's being restarted.`,
		Example: "  snakes status\n  snakes status -q || echo not ready\n  snakes status --wait ready --timeout 2m\n  snakes status -o json | jq .verdict",
		Args:    arguments(""), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if quiet {
				if wait != "" {
					return misused(cmd, "-q tells how it is now, and --wait waits")
				}
				return r.askWhetherReady(cmd.Context())
			}
			goal, err := parseGoal(wait)
			if err != nil {
				return misused(cmd, "%v", err)
			}
			if !cmd.Flags().Changed("timeout") && wait != "" {
				r.timeout = statusPatience
			}
			return r.ask(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				if goal == nil {
					return r.showStatus(ctx, c)
				}
				return r.awaitStatus(ctx, c, wait, goal)
			})
		},
	}
	cmd.Flags().StringVar(&wait, "wait", "", "wait until that is so: `ready` or alive=N")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing; is the node at --server ready?")
	return cmd
}

// askWhetherReady ends without a word, with the exit code for whether a node at --server is ready.
func (r *remote) askWhetherReady(ctx context.Context) error {
	err := r.ask(ctx, func(ctx context.Context, c *client.Client) error {
		_, err := c.Raw(ctx, "/-/ready")
		return err
	})
	if _, answered := errors.AsType[*client.Error](err); answered {
		return &ended{4}
	}
	if errors.Is(err, client.ErrUnreachable) {
		return &ended{5}
	}
	return err // none, or about the command line
}

// report is what status prints with -o json.
type report struct {
	verdict.Verdict
	// Views are what each node says, by name.
	Views []viewed `json:"views"`
}

// viewed is what one node says.
type viewed struct {
	ID     string `json:"id"`
	Server string `json:"server"`
	// Error is why it gave no answer; Members is what GET /-/members says, nil if there is no answer.
	Error   string          `json:"error,omitempty"`
	Members *client.Members `json:"members"`
}

func reportOf(views []client.View, now time.Time) report {
	all := report{Verdict: verdict.Of(views, now), Views: []viewed{}}
	for _, v := range views {
		one := viewed{ID: v.ID, Server: v.Server}
		if v.Err != nil {
			one.Error = v.Err.Error()
		} else {
			one.Members = &v.Members
		}
		all.Views = append(all.Views, one)
	}
	return all
}

func (r *remote) showStatus(ctx context.Context, c *client.Client) error {
	views, err := c.Survey(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	told := reportOf(views, now)
	if err := r.printStatus(told, now); err != nil {
		return err
	}
	switch told.Word {
	case verdict.OK, verdict.Insecure:
		return nil
	case verdict.NoWrites:
		return &ended{4}
	}
	return &ended{1}
}

func (r *remote) printStatus(told report, now time.Time) error {
	if r.output.value == "json" {
		text, err := json.Marshal(told)
		if err != nil {
			return fmt.Errorf("encode status: %w", err)
		}
		return r.write(append(text, '\n'))
	}
	return r.write(statusScreen(told, now))
}

// goal reports whether what is waited for is so.
type goal func(views []client.View) bool

// parseGoal returns nil for nothing.
func parseGoal(text string) (goal, error) {
	if text == "" {
		return nil, nil
	}
	if text == "ready" {
		return allReady, nil
	}
	if count, found := strings.CutPrefix(text, "alive="); found {
		if n, err := strconv.Atoi(count); err == nil && n > 0 {
			return func(views []client.View) bool {
				return everyAnswer(views, func(m *client.Members) bool { return m.Alive >= n })
			}, nil
		}
	}
	return nil, fmt.Errorf("--wait %q is neither ready nor alive=N with a number from 1 on", text)
}

// allReady reports whether every node that answers is ready and sees every member alive.
func allReady(views []client.View) bool {
	return everyAnswer(views, func(m *client.Members) bool {
		return len(m.Unready) == 0 && !slices.ContainsFunc(m.Members, func(m client.Member) bool {
			return !m.Learner && m.State != "joining" && (m.State != "alive" || !m.Synced)
		})
	})
}

// everyAnswer reports whether there are answers and all of them are as they should.
func everyAnswer(views []client.View, isSo func(m *client.Members) bool) bool {
	answers := 0
	for _, v := range views {
		if v.Err == nil {
			if !isSo(&v.Members) {
				return false
			}
			answers++
		}
	}
	return answers > 0
}

// awaitStatus shows the status once it is as it should be, or when ctx ends.
func (r *remote) awaitStatus(ctx context.Context, c *client.Client, wait string, reached goal) error {
	var last report
	var lastErr error
	for {
		views, err := c.Survey(ctx)
		now := time.Now()
		switch {
		case ctx.Err() != nil: // what was asked then had no time to answer
		case err == nil && reached(views):
			return r.printStatus(reportOf(views, now), now)
		default:
			last, lastErr = reportOf(views, now), err
		}
		select {
		case <-time.After(statusPace):
			continue
		case <-ctx.Done():
		}
		if lastErr != nil {
			return lastErr
		}
		if _, timeout := errors.AsType[timeoutError](context.Cause(ctx)); !timeout {
			return errInterrupted
		}
		if last.Views != nil {
			if err := r.printStatus(last, now); err != nil {
				return err
			}
		}
		fmt.Fprintf(r.stderr, "snakes: status: it has not come to %s within %v\n", wait, r.timeout)
		return &ended{4}
	}
}

// statusScreen returns a status for people.
func statusScreen(told report, now time.Time) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s  %s\n\n", told.Word, told.Sentence)
	seen := make(map[string]client.Member)
	var cluster *client.Members
	for _, v := range told.Views {
		if v.Members == nil {
			continue
		}
		if cluster == nil || v.Members.Writable && !cluster.Writable {
			cluster = v.Members
		}
		for _, m := range v.Members.Members {
			seen[m.ID] = merged(seen, m, v.ID)
		}
	}
	if cluster == nil {
		return b.Bytes()
	}
	fmt.Fprintf(&b, "cluster %s: %d known, %d alive, quorum %d", cluster.Cluster, cluster.Known, cluster.Alive, cluster.Quorum)
	if cluster.Protected {
		b.WriteString(", protected")
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }
	row("NAME", "ADDRESS", "STATE", "FOR", "READY", "WRITES", "SEES", "KEYS", "BEHIND", "BLOCKS", "SKEW", "DISK", "VERSION")
	members := slices.SortedFunc(maps.Values(seen), func(a, b client.Member) int {
		return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID)
	})
	for _, m := range members {
		ready, writes, sees, disk := "-", "-", "-", "-"
		if i := slices.IndexFunc(told.Views, func(v viewed) bool { return v.ID == m.ID && v.Members != nil }); i >= 0 {
			own := told.Views[i].Members
			ready, writes = yesOrNo(len(own.Unready) == 0), yesOrNo(own.Writable)
			sees, disk = fmt.Sprintf("%d/%d", own.Alive, own.Known), diskCell(own.Disk)
		}
		row(m.Name, m.Address, stateCell(m), verdict.Ago(now.Sub(m.Since)), ready, writes, sees, fmt.Sprint(m.Keys),
			fmt.Sprint(m.Behind), fmt.Sprint(m.Blocks), fmt.Sprintf("%.1fms", m.ClockSkew), disk, m.Version)
	}
	_ = t.Flush() // a buffer takes everything
	for _, p := range told.Problems {
		fmt.Fprintf(&b, "\n%s  %s\n  %s\n  $ %s\n", p.Word, p.What, p.Do, p.Command)
	}
	return b.Bytes()
}

// merged returns what is known of a member, with what one more node says: what the member says of itself counts most, of
// what others measure the worst.
func merged(seen map[string]client.Member, m client.Member, by string) client.Member {
	before, known := seen[m.ID]
	if !known {
		return m
	}
	if m.ID != by {
		before, m = m, before
	}
	m.Behind, m.Blocks = max(m.Behind, before.Behind), max(m.Blocks, before.Blocks)
	m.ClockSkew = slices.MaxFunc([]float64{m.ClockSkew, before.ClockSkew}, func(a, b float64) int { return int(max(a, -a)*1000 - max(b, -b)*1000) })
	return m
}

func yesOrNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// stateCell is the state of a member, with how far it has got.
func stateCell(m client.Member) string {
	if m.Progress != nil && m.Progress.Offered > 0 {
		return fmt.Sprintf("%s(%d/%d)", m.State, m.Progress.Pulled, m.Progress.Offered)
	}
	return m.State
}

// diskCell is how a disk is in a few words.
func diskCell(d client.Disk) string {
	switch {
	case d.Latched:
		return "FAILED"
	case d.Full:
		return "FULL"
	case d.Damaged > 0:
		return fmt.Sprintf("%d damaged", d.Damaged)
	case d.Size == 0:
		return "ok"
	}
	return fmt.Sprintf("%.1fGiB(%d%%) free", float64(d.Free)/(1<<30), d.Free*100/d.Size)
}
