package faults

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// result is a row of RESULTS.md: what came of one fault in all rounds of a run, or of several runs of one commit.
type result struct {
	commit, fault          string
	seeds                  [][2]uint64 // first and last
	rounds, operations     int
	failed                 int // plain requests at nodes that were not hit
	violations, undecided  int
	twice                  int // keys for which a write that showed under two versions leaves no order
	windowSum, windowMax   time.Duration
	recoverSum, recoverMax time.Duration
}

func (r *result) add(o report) {
	r.rounds++
	r.operations += o.operations
	r.violations += len(o.wrong)
	r.undecided += o.undecided
	r.twice += len(o.twice)
	r.failed += o.failed
	r.windowSum, r.windowMax = r.windowSum+o.window, max(r.windowMax, o.window)
	r.recoverSum, r.recoverMax = r.recoverSum+o.recovery, max(r.recoverMax, o.recovery)
}

// merge adds the rounds of another row.
func (r *result) merge(o result) {
	r.rounds, r.operations = r.rounds+o.rounds, r.operations+o.operations
	r.violations, r.undecided = r.violations+o.violations, r.undecided+o.undecided
	r.twice += o.twice
	r.failed += o.failed
	r.windowSum, r.windowMax = r.windowSum+o.windowSum, max(r.windowMax, o.windowMax)
	r.recoverSum, r.recoverMax = r.recoverSum+o.recoverSum, max(r.recoverMax, o.recoverMax)
	r.seeds = append(r.seeds, o.seeds...)
}

// String is the row in Markdown.
func (r result) String() string {
	seeds := make([]string, len(r.seeds))
	for i, s := range r.seeds {
		seeds[i] = fmt.Sprintf("%d-%d", s[0], s[1])
	}
	mean := func(sum time.Duration) time.Duration { return sum / time.Duration(max(1, r.rounds)) }
	return fmt.Sprintf("| %s | %s | %s | %d | %d | %d | %d | %d | %d | %d / %d | %d / %d |", r.fault, r.commit, strings.Join(seeds, ", "), r.rounds,
		r.operations, r.violations, r.undecided, r.twice, r.failed, mean(r.windowSum).Milliseconds(), r.windowMax.Milliseconds(),
		mean(r.recoverSum).Milliseconds(), r.recoverMax.Milliseconds())
}

// parseResult reads what String writes.
func parseResult(line string) (result, error) {
	cells := strings.Split(strings.Trim(line, "| "), " | ")
	if len(cells) != 11 {
		return result{}, fmt.Errorf("%q has %d cells, want 11", line, len(cells))
	}
	var errs []error
	number := func(text string) int {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		errs = append(errs, err)
		return n
	}
	r := result{
		fault: cells[0], commit: cells[1], rounds: number(cells[3]), operations: number(cells[4]),
		violations: number(cells[5]), undecided: number(cells[6]), twice: number(cells[7]), failed: number(cells[8]),
	}
	for part := range strings.SplitSeq(cells[2], ", ") {
		first, last, _ := strings.Cut(part, "-")
		r.seeds = append(r.seeds, [2]uint64{uint64(number(first)), uint64(number(last))})
	}
	times := func(text string) (sum, most time.Duration) {
		mean, longest, _ := strings.Cut(text, " / ")
		return time.Duration(number(mean)*r.rounds) * time.Millisecond, time.Duration(number(longest)) * time.Millisecond
	}
	r.windowSum, r.windowMax = times(cells[9])
	r.recoverSum, r.recoverMax = times(cells[10])
	return r, errors.Join(errs...)
}

// The table of RESULTS.md is between its head and the next line that is no row; all else is left as it is.
const (
	resultsHead = "| fault | commit | seeds | rounds | operations | violations | undecided | twice | failed | error window, ms | time to recover, ms |"
	resultsRule = "|---|---|---|---|---|---|---|---|---|---|---|"
)

// recordResults adds rows to the table in a file. Rows of one fault and commit become one.
func recordResults(path string, rows []result) error {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before, rest, found := strings.Cut(string(data), resultsHead+"\n"+resultsRule+"\n")
	if !found {
		return fmt.Errorf("%s has no table with the head %q", path, resultsHead)
	}
	var all []result
	for strings.HasPrefix(rest, "|") {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		if strings.HasPrefix(line, "| **") {
			continue // a sum, made anew below
		}
		r, err := parseResult(strings.TrimSpace(line))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, r)
	}
	for _, r := range rows {
		same := func(o result) bool { return o.fault == r.fault && o.commit == r.commit }
		if i := slices.IndexFunc(all, same); i >= 0 {
			all[i].merge(r)
		} else {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b result) int { return cmp.Compare(a.fault, b.fault) })
	var text strings.Builder
	var sum result
	for _, r := range all {
		fmt.Fprintln(&text, r)
		sum.rounds, sum.operations = sum.rounds+r.rounds, sum.operations+r.operations
		sum.violations, sum.undecided = sum.violations+r.violations, sum.undecided+r.undecided
		sum.twice, sum.failed = sum.twice+r.twice, sum.failed+r.failed
	}
	fmt.Fprintf(&text, "| **all** | | | %d | %d | %d | %d | %d | %d | | |\n", sum.rounds, sum.operations, sum.violations, sum.undecided, sum.twice, sum.failed)
	return os.WriteFile(path, []byte(before+resultsHead+"\n"+resultsRule+"\n"+text.String()+rest), 0o644)
}

// commitOf returns the last commit that changed what is tested.
func commitOf() string {
	out, err := exec.Command("git", "log", "-1", "--format=%h", "--", "../../cmd", "../../node", "../../membership", "../../replication", "../../disk").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
