//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/protocol7/snakes/node/client/load"
	"github.com/protocol7/snakes/test/bench/plot"
)

// report is all that a run has measured; what it has not is empty.
type report struct {
	machine  machine
	settings string // the flags that made it
	day      string
	took     time.Duration
	floor    floor
	outcomes []outcome
	faults   []faultRun
	sleep    *faultRun
	growth   *growth
	problems []error // of parts that could not be measured to their ends
}

// systems are in the order of the tables.
var systems = []string{"snakes", "closed", "etcd", "bare"}

// charted are those of the charts.
var charted = []string{"snakes", "etcd", "bare"}

// Markdown returns the report for people.
func (r *report) Markdown() string {
	var b strings.Builder
	section := func(title, words string, t *table) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", title, strings.TrimSpace(words))
		if t != nil {
			fmt.Fprintf(&b, "\n%s", t)
		}
	}
	fmt.Fprintf(&b, "# Results\n\nWritten by `go run ./test/bench%s` on %s, in %v. What the figures mean is in [doc.go](doc.go).\n",
		r.settings, r.day, r.took.Round(time.Second))
	for _, problem := range r.problems {
		fmt.Fprintf(&b, "\n**Not measured to its end: %s**\n", strings.ReplaceAll(problem.Error(), "\n", " "))
	}
	section("Machine", r.machine.String(), nil)
	section("Goals", "`missed` is no failure of the run: it is what to work on.", r.goals())
	if len(r.floor.appended) > 0 {
		section("Floor", "One write of 4 KiB and fdatasync, alone on the disk that has the data.", r.floorTable())
	}
	if len(r.outcomes) > 0 {
		section("Workloads", workWords, r.workTable())
		section("Ratios", "Throughput and p99 of snakes divided by those of the others in the same run.", r.ratioTable())
		b.WriteString("\n![Requests a second](throughput.svg)\n\n![99 of 100 requests take no longer than](latency.svg)\n")
	}
	if len(r.faults) > 0 || r.sleep != nil {
		section("Faults", faultWords, r.faultTable())
		for _, name := range r.faultCharts() {
			fmt.Fprintf(&b, "\n![Requests a second during faults](%s)\n", name)
		}
	}
	if r.growth != nil {
		section("Keys", fmt.Sprintf("Values of %s, %d connections. A key has %d characters.", bytesText(baseSize), baseConnections,
			len(load.KeyName(growthPrefix, 0))), r.stageTable())
		fmt.Fprintf(&b, "\n%s\n%s", r.idleTable(), r.restartWords())
	}
	return b.String()
}

const workWords = `
Both clusters have three nodes, and clients of all of them. min–max are the slowest and the fastest round. CPU is of the
servers for each request, "client" of the load generator, which shares the processors with them. "Written" is what
the disk got for each byte of value on each node that stores it. Memory is of the largest process.`

const faultWords = `
Clients are connected to the two nodes that nothing happens to, with r or w of quorum; "after" begins one second after
the fault. When all are frozen, clients are connected to all and use the default levels. The slow node gets everything
that is sent to it 500 ms late, requests and gossip; what it sends is not late.`

// String implements fmt.Stringer.
func (m machine) String() string {
	etcd := "none on PATH: the comparison is left out"
	if m.Etcd != "" {
		etcd = m.Etcd
	}
	text := fmt.Sprintf("- %s, %d cores, %s\n- %s, data on %s\n- %s, etcd %s\n", m.Processor, m.Cores, m.Memory, m.Kernel, m.FileSystem, m.Go, etcd)
	if volatile(m.FileSystem) {
		text += "\n**The data are in memory: syncs cost nothing here, and figures of writes mean nothing.**\n"
	}
	return text
}

func (r *report) floorTable() *table {
	t := &table{header: []string{"write", "p50", "p99", "p99.9"}}
	row := func(name string, l latencies) {
		t.add(name, duration(l.quantile(0.5)), duration(l.quantile(0.99)), duration(l.quantile(0.999)))
	}
	row("appended", r.floor.appended)
	row("in place", r.floor.overwritten)
	return t
}

func (r *report) workTable() *table {
	t := &table{header: []string{
		"workload", "system", "requests/s", "min–max", "p50", "p99", "p99.9", "failed", "CPU", "client", "written", "memory",
	}}
	for _, o := range r.outcomes {
		for _, name := range systems {
			s := o.samples[name]
			if s == nil {
				continue
			}
			written := "-"
			if s.stored > 0 {
				written = digits(s.amplification())
			}
			failed := "0"
			if s.Failures() > 0 {
				failed = s.Reasons()
			}
			t.add(o.cell.name(), name, thousands(s.Throughput()), thousands(s.slowest)+"–"+thousands(s.fastest),
				duration(s.Quantile(0.5)), duration(s.Quantile(0.99)), duration(s.Quantile(0.999)), failed,
				duration(s.each(s.cpu)), duration(s.each(s.client)), written, megabytes(s.memory))
		}
	}
	return t
}

func (r *report) ratioTable() *table {
	t := &table{header: []string{"workload", "snakes / etcd", "p99", "snakes / bare"}}
	for _, o := range r.outcomes {
		snakes := o.samples["snakes"]
		t.add(o.cell.name(), ratio(throughput(snakes), throughput(o.samples["etcd"])),
			ratio(p99(snakes), p99(o.samples["etcd"])), ratio(throughput(snakes), throughput(o.samples["bare"])))
	}
	return t
}

func throughput(s *sample) float64 {
	if s == nil {
		return 0
	}
	return s.Throughput()
}

func p99(s *sample) float64 {
	if s == nil {
		return 0
	}
	return s.Quantile(0.99).Seconds()
}

// ratio writes a / b, or nothing if either was not measured.
func ratio(a, b float64) string {
	if a <= 0 || b <= 0 {
		return "-"
	}
	return digits(a / b)
}

func (r *report) faultTable() *table {
	t := &table{header: []string{"load", "fault", "before, /s", "after, /s", "ratio", "p99 before", "p99 after", "failed"}}
	row := func(load string, f faultRun) {
		failed := f.failures
		failed.Add(f.after)
		words := "0"
		if failed.Failures() > 0 {
			words = failed.Reasons()
		}
		t.add(load, f.fault, thousands(f.healthy.Throughput()), thousands(f.after.Throughput()), ratio(f.after.Throughput(), f.healthy.Throughput()),
			duration(f.healthy.Quantile(0.99)), duration(f.after.Quantile(0.99)), words)
	}
	for _, f := range r.faults {
		row(f.op.String()+" quorum", f)
	}
	if r.sleep != nil {
		row("MIX default", *r.sleep)
	}
	return t
}

func (r *report) stageTable() *table {
	t := &table{header: []string{"keys", "PUT w=3, /s", "p99", "GET r=3, /s", "p99", "GET r=1, /s", "p99", "memory of a node"}}
	for _, s := range r.growth.stages {
		t.add(thousands(float64(s.keys)), thousands(s.put.Throughput()), duration(s.put.Quantile(0.99)),
			thousands(s.get.Throughput()), duration(s.get.Quantile(0.99)), thousands(s.one.Throughput()), duration(s.one.Quantile(0.99)), megabytes(s.memory))
	}
	return t
}

func (r *report) idleTable() *table {
	t := &table{header: []string{"idle with keys", "CPU of a node", "memory of a node", "written by all", "in"}}
	for _, i := range r.growth.idle {
		t.add(thousands(float64(i.keys)), fmt.Sprintf("%.2f %%", 100*i.cpu), megabytes(i.memory), thousands(float64(i.written))+" B", duration(i.over))
	}
	return t
}

func (r *report) restartWords() string {
	g := r.growth
	last := g.stages[len(g.stages)-1]
	var b strings.Builder
	if last.keys < g.wanted {
		fmt.Fprintf(&b, "**%s keys were wanted; there was time or room for %s.**\n\n", thousands(float64(g.wanted)), thousands(float64(last.keys)))
	}
	fmt.Fprintf(&b, "With %s keys a node was ready %s after a start that followed SIGTERM, with %s of memory, and %s after one that followed "+
		"SIGKILL. `/-/digest` answered in %s (p99 %s), `/-/members` in %s (p99 %s).\n",
		thousands(float64(last.keys)), duration(g.stopped), megabytes(g.afterRestart), duration(g.killed),
		duration(g.digest.quantile(0.5)), duration(g.digest.quantile(0.99)), duration(g.members.quantile(0.5)), duration(g.members.quantile(0.99)))
	return b.String()
}

// charts returns the plots by file name.
func (r *report) charts() map[string][]byte {
	charts := make(map[string][]byte)
	if len(r.outcomes) > 0 {
		bars := func(title string, value func(*sample) float64) []byte {
			chart := plot.Bars{Title: title, Series: charted}
			for _, o := range r.outcomes {
				group := plot.Group{Name: o.cell.name()}
				for _, name := range charted {
					group.Values = append(group.Values, value(o.samples[name]))
				}
				chart.Groups = append(chart.Groups, group)
			}
			return chart.SVG()
		}
		charts["throughput.svg"] = bars("Requests a second", throughput)
		charts["latency.svg"] = bars("99 of 100 requests take no longer than (ms)", func(s *sample) float64 { return 1e3 * p99(s) })
	}
	for _, name := range r.faultCharts() {
		charts[name] = r.faultChart(name)
	}
	return charts
}

// faultCharts returns the names of the charts of faults.
func (r *report) faultCharts() []string {
	var names []string
	for i, f := range r.faults {
		if i == 0 || f.op != r.faults[i-1].op {
			names = append(names, "faults-"+strings.ToLower(f.op.String())+".svg")
		}
	}
	if r.sleep != nil {
		names = append(names, "faults-all.svg")
	}
	return names
}

func (r *report) faultChart(name string) []byte {
	chart := plot.Lines{XLabel: "seconds"}
	line := func(f faultRun) {
		s := plot.Series{Name: f.fault}
		for _, m := range f.timeline {
			s.Points = append(s.Points, plot.Point{X: m.at.Seconds(), Y: m.Throughput()})
		}
		chart.Series = append(chart.Series, s)
		if len(chart.Marks) == 0 {
			chart.Marks = []plot.Mark{{X: f.began.Seconds(), Text: "fault"}}
		}
	}
	if name == "faults-all.svg" {
		chart.Title = "Requests a second, all three nodes frozen for 6 s"
		line(*r.sleep)
		chart.Marks = append(chart.Marks, plot.Mark{X: (r.sleep.began + frozen).Seconds(), Text: "resumed"})
		return chart.SVG()
	}
	for _, f := range r.faults {
		if name == "faults-"+strings.ToLower(f.op.String())+".svg" {
			chart.Title = fmt.Sprintf("%v quorum a second, %d connections, one of three nodes", f.op, baseConnections)
			line(f)
		}
	}
	return chart.SVG()
}

// write writes the report and its charts into dir, and removes charts that this run has no figures for.
func (r *report) write(dir string) error {
	old, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil {
		return err
	}
	charts := r.charts()
	var errs []error
	for _, path := range old {
		if charts[filepath.Base(path)] == nil {
			errs = append(errs, os.Remove(path))
		}
	}
	for name, chart := range charts {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), chart, 0o644))
	}
	errs = append(errs, os.WriteFile(filepath.Join(dir, "RESULTS.md"), []byte(r.Markdown()), 0o644))
	return errors.Join(errs...)
}
