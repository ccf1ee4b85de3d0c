//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/protocol7/snakes/node/client/load"
)

// verdict of a goal that nothing was measured for.
const notMeasured = "not measured"

// goals compares what was measured with what was aimed at.
func (r *report) goals() *table {
	t := &table{header: []string{"work", "goal", "measured", ""}}
	r.workGoals(t)
	r.faultGoals(t)
	r.growthGoals(t)
	return t
}

// judge adds a row; measured is false where there are no figures.
func judge(t *table, work, goal string, measured, met bool, got string) {
	verdict := "missed"
	switch {
	case !measured:
		got, verdict = "-", notMeasured
	case met:
		verdict = "met"
	}
	t.add(work, goal, got, verdict)
}

func (r *report) workGoals(t *table) {
	put := cell{op: load.Put, level: "3", size: baseSize, connections: baseConnections}
	fresh, single := put, put
	fresh.fresh, single.connections = true, 1
	three := cell{op: load.Get, level: "3", size: baseSize, connections: baseConnections}
	one := three
	one.level = "1"
	against := func(c cell, subject, rival string, factor float64, goal string) {
		a, b := throughput(r.sample(c, subject)), throughput(r.sample(c, rival))
		judge(t, c.name(), goal, a > 0 && b > 0, a >= factor*b, ratio(a, b)+" ×")
	}
	faster := func(c cell, rival string, factor float64) {
		against(c, "snakes", rival, factor, fmt.Sprintf("≥ %v × %s", factor, rival))
	}
	sooner := func(c cell, q float64, name string) {
		a, b := r.sample(c, "snakes"), r.sample(c, "etcd")
		if a == nil || b == nil {
			judge(t, c.name(), name+" ≤ etcd's", false, false, "")
			return
		}
		judge(t, c.name(), name+" ≤ etcd's", true, a.Quantile(q) <= b.Quantile(q),
			fmt.Sprintf("%s, etcd %s", duration(a.Quantile(q)), duration(b.Quantile(q))))
	}
	faster(put, "etcd", 2)
	sooner(put, 0.99, "p99")
	faster(fresh, "etcd", 1.2)
	sooner(single, 0.5, "p50")
	faster(three, "etcd", 2)
	faster(one, "bare", 0.85)
	faster(one, "etcd", 0.85)
	against(put, "closed", "snakes", 0.8, "with a secret ≥ 0.8 × without")
}

// sample returns what came of a cell on a system, nil if nothing was measured.
func (r *report) sample(c cell, system string) *sample {
	for _, o := range r.outcomes {
		if o.cell == c {
			return o.samples[system]
		}
	}
	return nil
}

func (r *report) faultGoals(t *table) {
	for _, f := range r.faults {
		before, after := f.healthy.Throughput(), f.after.Throughput()
		slow, slower := f.healthy.Quantile(0.99), f.after.Quantile(0.99)
		judge(t, fmt.Sprintf("%v quorum, one of three %s", f.op, f.fault), "≥ 0.8 of before, p99 ≤ 2 ×", before > 0,
			after >= 0.8*before && slower > 0 && slower <= 2*slow, ratio(after, before)+", p99 "+ratio(slower.Seconds(), slow.Seconds())+" ×")
	}
	if len(r.faults) == 0 {
		judge(t, "quorum, one of three killed, frozen, slow", "≥ 0.8 of before, p99 ≤ 2 ×", false, false, "")
	}
	late := load.Result{}
	if r.sleep != nil {
		late = r.sleep.after
	}
	judge(t, "all three frozen for 6 s and resumed", "none failed from 1.5 s after", r.sleep != nil, late.Failures() == 0 && late.Requests() > 0,
		fmt.Sprintf("%d failed, %s did not", late.Failures(), thousands(float64(late.Requests()))))
}

func (r *report) growthGoals(t *table) {
	g := r.growth
	if g == nil {
		for _, work := range []string{"1,000,000 keys", "idle, no keys", "10,000 to 1,000,000 keys"} {
			judge(t, work, "", false, false, "")
		}
		return
	}
	first, last := g.stages[0], g.stages[len(g.stages)-1]
	with := thousands(float64(last.keys)) + " keys"
	whole := last.keys >= g.wanted // fewer keys prove nothing
	ready := max(g.stopped, g.killed)
	judge(t, with, "ready ≤ 3 s after restart", true, whole && ready <= 3*time.Second, duration(ready))
	status := max(g.digest.quantile(0.99), g.members.quantile(0.99))
	judge(t, with, "digest and members ≤ 5 ms (p99)", true, whole && status <= 5*time.Millisecond, duration(status))
	judge(t, with, "operators' page ≤ 50 ms (p99) and 100 KB", true, whole && g.page.quantile(0.99) <= 50*time.Millisecond && g.pageBytes <= 100_000,
		fmt.Sprintf("%s, %d bytes", duration(g.page.quantile(0.99)), g.pageBytes))
	heap := (float64(g.liveHeap) - float64(g.idle[0].liveHeap)) / float64(last.keys)
	resident := (float64(g.afterRestart) - float64(g.idle[0].memory)) / float64(last.keys)
	judge(t, with, "live heap ≤ 150 B a key", true, whole && heap <= 150, fmt.Sprintf("%.0f B, resident: %.0f B", heap, resident))
	i := g.idle[0]
	judge(t, "idle, no keys", "≤ 0.5 % of a core, ≤ 30 MB, no writes", true, i.cpu <= 0.005 && i.memory <= 30e6 && i.written == 0,
		fmt.Sprintf("%.2f %%, %s, %s B", 100*i.cpu, megabytes(i.memory), thousands(float64(i.written))))
	var falls []string
	worst := 0.0
	for _, pair := range []struct {
		name          string
		before, after load.Result
	}{{"PUT", first.put, last.put}, {"GET r=3", first.get, last.get}, {"GET r=1", first.one, last.one}} {
		fall := 1 - pair.after.Throughput()/max(pair.before.Throughput(), 1)
		worst = max(worst, fall)
		falls = append(falls, fmt.Sprintf("%s %.0f %%", pair.name, 100*fall))
	}
	judge(t, thousands(float64(first.keys))+" to "+with, "throughput falls ≤ 20 %", true, whole && worst <= 0.2, strings.Join(falls, ", "))
}
