package faults

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/protocol7/snakes/replication/version"
)

// register is one key as porcupine knows it: its state is the number of the value, 0 for none.
var register = porcupine.NondeterministicModel{
	Init: func() []any { return []any{uint64(0)} },
	Step: func(state, input, _ any) []any {
		o := input.(operation)
		switch {
		case o.Kind == get && state.(uint64) == o.Value:
			return []any{state}
		case o.Kind == get:
			return nil
		case o.Note == perhaps:
			return []any{state, o.Value}
		}
		return []any{o.Value}
	},
}

var registerModel = register.ToModel()

// perhaps is the note of a write that did happen or did not.
const perhaps = "perhaps"

// linearizable says whether there is an order of a key's operations in which each happened at one moment between its start
// and its end. A write of which nobody knows what came of it may have happened at any time from its start on, or never.
func linearizable(past []operation, limit time.Duration) porcupine.CheckResult {
	var all []porcupine.Operation
	found := map[uint64]bool{}
	for _, o := range past {
		if o.Kind == get && o.answered() {
			found[o.Value] = true
		}
	}
	for _, o := range past {
		end := int64(o.End)
		switch {
		case o.Outcome == refused, o.Kind == get && !o.answered():
			continue
		case o.Outcome == unknown && o.Kind == put && !found[o.Value]:
			continue // whether it ever happened nobody saw
		case o.Outcome == unknown:
			end = math.MaxInt64
		}
		all = append(all, porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Start), Return: end})
	}
	if len(all) == 0 {
		return porcupine.Ok
	}
	return porcupine.CheckOperationsTimeout(registerModel, all, limit)
}

// asTwo returns the operations with each write that was seen under two versions as two writes of different values at the same time:
// one that met something newer and was stamped anew may show, be overwritten, and show again. Under how many versions a delete was
// seen nobody knows, so each may be two.
func asTwo(past []operation) []operation {
	number := map[version.Version]uint64{} // of a value at one of its versions
	versions := map[uint64][]version.Version{}
	for _, o := range past {
		if o.Outcome == done && o.Kind != remove && number[o.Version] == 0 {
			number[o.Version] = uint64(len(number) + 1)
			versions[o.Value] = append(versions[o.Value], o.Version)
		}
	}
	var split []operation
	for _, o := range past {
		if o.Kind != put {
			o.Value = number[o.Version]
			split = append(split, o)
			if o.Kind == remove {
				o.Note = perhaps
				split = append(split, o)
			}
			continue
		}
		for _, v := range versions[o.Value] {
			o.Value = number[v]
			split = append(split, o)
		}
	}
	return split
}

const (
	// exampleLimit is how long the search for a small counter-example goes on, tryLimit how long each step of it.
	exampleLimit = 5 * time.Second
	tryLimit     = 200 * time.Millisecond
)

// counterExample returns a small part of a key's operations that shows that they are not linearizable. It leaves out values with all
// that found them, so that none is found which was not put, and reads of nothing: many of them first, then one by one; and
// all deletes if nothing is left that needs them.
func counterExample(past []operation) string {
	parts := map[string][]operation{}
	var deletes []operation
	for i, o := range past {
		switch {
		case o.Kind == remove:
			deletes = append(deletes, o)
		case o.Value == 0:
			parts[fmt.Sprintf("operation %d", i)] = []operation{o}
		default:
			part := fmt.Sprintf("value %d", o.Value)
			parts[part] = append(parts[part], o)
		}
	}
	kept := slices.Sorted(maps.Keys(parts))
	all := func(names []string) (part []operation) {
		for _, name := range names {
			part = append(part, parts[name]...)
		}
		return part
	}
	began := time.Now()
	for size := len(kept) / 2; size > 0; size /= 2 {
		for at := 0; at < len(kept) && time.Since(began) < exampleLimit; {
			less := slices.Concat(kept[:at], kept[min(at+size, len(kept)):])
			if linearizable(append(all(less), deletes...), tryLimit) == porcupine.Illegal {
				kept = less
			} else {
				at += size
			}
		}
	}
	example := all(kept)
	first, last := time.Duration(math.MaxInt64), time.Duration(0)
	for _, o := range example {
		first, last = min(first, o.Start), max(last, o.End)
	}
	if linearizable(example, tryLimit) != porcupine.Illegal || slices.ContainsFunc(example, func(o operation) bool { return o.Value == 0 }) {
		for _, o := range deletes {
			if o.wrote() && o.End > first && o.Start < last { // no others can matter to a reader
				example = append(example, o)
			}
		}
	}
	slices.SortFunc(example, func(a, b operation) int { return cmp.Compare(a.Start, b.Start) })
	var text strings.Builder
	for _, o := range example {
		fmt.Fprintln(&text, o)
	}
	return text.String()
}

// order is what was found out about the order of some keys' operations.
type order struct {
	wrong     []string // counter-examples
	twice     []string // those that need a write that showed under two versions
	undecided int      // keys that took longer than the limit
}

// orderOf looks for an order of the operations of each key of a setting.
func orderOf(operations []operation, letter string, limit time.Duration) (found order) {
	byKey := map[string][]operation{}
	for _, o := range operations {
		if o.Setting == letter {
			byKey[o.Key] = append(byKey[o.Key], o)
		}
	}
	for key, past := range byKey {
		all, split := linearizable(past, limit), porcupine.Ok
		if all == porcupine.Illegal {
			split = linearizable(asTwo(past), limit)
		}
		switch {
		case all == porcupine.Unknown || split == porcupine.Unknown:
			found.undecided++
		case split == porcupine.Illegal:
			found.wrong = append(found.wrong, notLinearizable(key, letter, past))
		case all == porcupine.Illegal:
			found.twice = append(found.twice, notLinearizable(key, letter, past))
		}
	}
	return found
}

func notLinearizable(key, letter string, past []operation) string {
	return fmt.Sprintf("%s (%v) is not linearizable:\n%s", key, settings[letter], counterExample(past))
}
