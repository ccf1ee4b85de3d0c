package faults

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/replication/version"
)

// period is a time within a history.
type period struct{ from, to time.Duration }

// within reports whether all of an operation was in the period.
func (p period) within(o operation) bool { return p.from < o.Start && o.End < p.to }

// circumstances are what the checker has to know beyond the operations.
type circumstances struct {
	// victims are the nodes that the fault hit.
	victims []int
	// outvoted are the nodes that could reach no majority all of a period.
	outvoted map[int]period
	// diskLost: a node lost what was on its disk, so that what it alone acknowledged need not be there.
	diskLost bool
	// final is what all nodes have of each key after the round; nothing for a key that is absent.
	final map[string]found
}

// found is what a node has of a key.
type found struct {
	Version version.Version
	Value   uint64
}

// check returns what an observer can tell is wrong in a history, nothing if all of DESIGN's invariants held as far as clients can
// see. Each of the operations is looked at once for its own sake and once in the order of its key.
func check(operations []operation, c circumstances) []string {
	var wrong []string
	byKey := map[string][]operation{}
	for _, o := range operations {
		byKey[o.Key] = append(byKey[o.Key], o)
		if o.Note != "" {
			wrong = append(wrong, fmt.Sprintf("%v: %s", o, o.Note))
		}
		// I7: nobody passes a quorum without a majority.
		if lonely, is := c.outvoted[o.Node]; is && settings[o.Setting].quorate && lonely.within(o) && o.answered() {
			wrong = append(wrong, fmt.Sprintf("%v: answered by a node that was cut off from the majority", o))
		}
	}
	for key, past := range byKey {
		k := newKeyChecker(key, past, c)
		k.checkValues()
		if k.setting.quorate {
			k.checkReads()
		} else if k.setting.w == "?w=all" {
			k.checkReadsAfterWrites()
		}
		k.checkReplicas()
		k.checkFinal()
		wrong = append(wrong, k.wrong...)
	}
	slices.Sort(wrong)
	return wrong
}

// keyChecker looks at the operations of one key.
type keyChecker struct {
	key     string
	setting setting
	past    []operation // by start
	c       circumstances
	wrong   []string
}

func newKeyChecker(key string, past []operation, c circumstances) *keyChecker {
	slices.SortFunc(past, func(a, b operation) int { return cmp.Compare(a.Start, b.Start) })
	return &keyChecker{key: key, setting: settings[past[0].Setting], past: past, c: c}
}

func (k *keyChecker) fault(format string, args ...any) {
	k.wrong = append(k.wrong, fmt.Sprintf(format, args...))
}

// checkValues: what is read was put, by a client that was not told otherwise, and has one version, or two if it was stamped
// anew; and a version has one value (I6, and that replicas invent no versions).
func (k *keyChecker) checkValues() {
	puts := map[uint64]operation{}
	for _, o := range k.past {
		if o.Kind == put {
			puts[o.Value] = o
		}
	}
	versions := map[uint64][]version.Version{}
	values := map[version.Version]operation{}
	for _, o := range k.past {
		if o.Outcome != done || o.Kind == remove && o.Version.IsZero() {
			continue
		}
		if o.Kind == get {
			origin, known := puts[o.Value]
			switch {
			case !known || origin.Start >= o.End:
				k.fault("%v: found a value that nobody had put", o)
				continue
			case origin.Outcome == refused:
				k.fault("%v: found what was refused: %v", o, origin)
			}
		}
		if other, taken := values[o.Version]; taken && (other.Value != o.Value) {
			k.fault("%v: has the version of another value: %v", o, other)
		}
		values[o.Version] = o
		if o.Value != 0 && !slices.Contains(versions[o.Value], o.Version) {
			versions[o.Value] = append(versions[o.Value], o.Version)
		}
	}
	for value, all := range versions {
		if len(all) > 2 {
			k.fault("%s: value %d was seen at %d versions: %v", k.key, value, len(all), all)
		}
	}
}

// floor is the oldest state that a read may find: at the version or above, or only above it.
type floor struct {
	version version.Version
	above   bool // a read found nothing where this version had been: a newer delete was there
	why     operation
}

func (f floor) less(g floor) bool {
	if c := f.version.Compare(g.version); c != 0 {
		return c < 0
	}
	return !f.above && g.above
}

// checkReads: a read finds what was acknowledged or read before it began, or something newer.
func (k *keyChecker) checkReads() {
	ended := slices.SortedFunc(slices.Values(k.past), func(a, b operation) int { return cmp.Compare(a.End, b.End) })
	before := map[int]floor{} // of the reads that began, by their place in past
	var now floor
	next := 0 // in ended
	starts := map[operation]floor{}
	for i, o := range k.past {
		for ; next < len(ended) && ended[next].End < o.Start; next++ {
			if f := k.raisedBy(ended[next], starts[ended[next]]); now.less(f) {
				now = f
			}
		}
		before[i], starts[o] = now, now
		if o.Kind == get && o.answered() {
			k.checkRead(o, now)
		}
	}
}

// raisedBy returns the floor after an operation that ended, which began at another one.
func (k *keyChecker) raisedBy(o operation, began floor) floor {
	switch {
	case o.Outcome == done:
		return floor{version: o.Version, why: o}
	case o.Outcome == absent && !began.version.IsZero() && began.why.Kind != remove:
		return floor{version: began.version, above: true, why: o}
	}
	return floor{}
}

func (k *keyChecker) checkRead(o operation, f floor) {
	switch {
	case o.Outcome == absent:
		if !f.above && f.why.Kind != remove && !f.version.IsZero() && !k.mayBeDeleted(f.version, o.End) {
			k.fault("%v: found nothing after %v", o, f.why)
		}
	case f.above && o.Version.Compare(f.version) <= 0:
		k.fault("%v: found what was gone already: %v", o, f.why)
	case o.Version.Compare(f.version) < 0:
		k.fault("%v: found something older than %v", o, f.why)
	}
}

// mayBeDeleted reports whether a delete of something at v may have happened by then.
func (k *keyChecker) mayBeDeleted(v version.Version, by time.Duration) bool {
	return slices.ContainsFunc(k.past, func(o operation) bool {
		return o.Kind == remove && o.wrote() && o.Start < by && (o.Outcome == unknown || o.Version.Compare(v) >= 0)
	})
}

// checkReadsAfterWrites: with w=all and r=1 a read finds what was acknowledged before it began, or something newer; but what another
// read found need not be everywhere, and a node that lost its disk answers r=1 from what it has until it has joined again.
func (k *keyChecker) checkReadsAfterWrites() {
	for _, o := range k.past {
		if o.Kind != get || !o.answered() || k.c.diskLost && slices.Contains(k.c.victims, o.Node) {
			continue
		}
		var newest floor
		for _, w := range k.past {
			if w.Kind != get && w.Outcome == done && w.End < o.Start && w.Version.Compare(newest.version) > 0 {
				newest = floor{version: w.Version, why: w}
			}
		}
		k.checkRead(o, newest)
	}
}

// checkReplicas: what a node answers from its own disk never gets older (I1). One that was hit by the fault may ask another
// node while it catches up.
func (k *keyChecker) checkReplicas() {
	if k.setting.r != "?r=1" {
		return
	}
	ended := slices.SortedFunc(slices.Values(k.past), func(a, b operation) int { return cmp.Compare(a.End, b.End) })
	for i, o := range ended {
		if o.Kind != get || o.Outcome != done || slices.Contains(k.c.victims, o.Node) {
			continue
		}
		for _, later := range ended[i+1:] {
			if later.Kind == get && later.Outcome == done && later.Node == o.Node && later.Start > o.End && later.Version.Compare(o.Version) < 0 {
				k.fault("%v: the node went back from %v", later, o)
			}
		}
	}
}

// checkFinal: in the end all that was acknowledged is there, or something newer (I3, I5, I9).
func (k *keyChecker) checkFinal() {
	if k.c.final == nil || k.c.diskLost && !k.setting.durable {
		return
	}
	var newest operation // acknowledged
	for _, o := range k.past {
		seen := o.Kind != get || k.setting.quorate
		if seen && o.Outcome == done && o.Version.Compare(newest.Version) > 0 {
			newest = o
		}
	}
	last, there := k.c.final[k.key]
	switch {
	case there && last.Version.Compare(newest.Version) < 0:
		k.fault("%s: in the end there is value %d at %v, which is older than %v", k.key, last.Value, last.Version, newest)
	case there && !slices.ContainsFunc(k.past, func(o operation) bool { return o.Kind == put && o.wrote() && o.Value == last.Value }):
		k.fault("%s: in the end there is value %d at %v, which nobody put or which was refused", k.key, last.Value, last.Version)
	case !there && newest.Value != 0 && !k.mayBeDeleted(newest.Version, time.Duration(1<<62)):
		k.fault("%s: in the end there is nothing, after %v", k.key, newest)
	}
}

// summary returns the first few of what is wrong.
func summary(wrong []string) string {
	text := strings.Join(wrong[:min(len(wrong), 8)], "\n  ")
	if more := len(wrong) - 8; more > 0 {
		text += fmt.Sprintf("\n  and %d more", more)
	}
	return text
}
