package events

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Kept is how many events a Log keeps.
const Kept = 500

// Event is something that happened.
type Event struct {
	// Number counts the events of a Log, from 1 on.
	Number uint64
	Time   time.Time
	// Level is info, warn or error.
	Level string
	// Part is what it happened to, such as "membership"; What says it in constant words.
	Part, What string
	// Facts are what the words leave open. They are shared and must not be changed.
	Facts map[string]string
}

// Log keeps the last events. Safe for concurrent use.
type Log struct {
	mu      sync.Mutex // guards the fields below
	kept    []Event    // ascending
	last    uint64
	changed chan struct{} // closed at the next event
}

// New returns a log without events.
func New() *Log { return &Log{changed: make(chan struct{})} }

// After returns the events that are kept with numbers above number, ascending, and a channel that
// is closed when the next one comes. The caller owns the slice.
func (l *Log) After(number uint64) (events []Event, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.kept, number, func(e Event, number uint64) int {
		if e.Number <= number {
			return -1
		}
		return 1
	})
	return slices.Clone(l.kept[i:]), l.changed
}

// hidden are the facts that stay in the log.
var hidden = []string{"file", "path", "directory", "stack", "seeds"}

// add keeps one event. args are pairs as hclog takes them.
func (l *Log) add(part string, level hclog.Level, what string, args []any) {
	facts := make(map[string]string, len(args)/2)
	for i := 0; i+1 < len(args); i += 2 {
		name := fmt.Sprint(args[i])
		if slices.Contains(hidden, name) || name == "error" && part == "disk" {
			continue
		}
		facts[name] = fmt.Sprint(args[i+1])
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	if len(l.kept) == Kept {
		l.kept = slices.Delete(l.kept, 0, 1)
	}
	l.kept = append(l.kept, Event{
		Number: l.last, Time: time.Now(), Level: level.String(), Part: part, What: what, Facts: facts,
	})
	close(l.changed)
	l.changed = make(chan struct{})
}

// Tee returns a logger that logs to logger, and whose lines are events: those at info and above,
// and those that debug ones tell of which alwaysKept lists. What comes through its StandardLogger
// is none.
func (l *Log) Tee(logger hclog.Logger) hclog.Logger {
	return &tee{Logger: logger, log: l, part: "node"}
}

// alwaysKept are the debug lines that are events.
var alwaysKept = []string{"pull is complete"}

// tee keeps name and facts of its own: a logger that logs nothing has none.
type tee struct {
	hclog.Logger
	log     *Log
	part    string
	implied []any
}

// Log implements hclog.Logger.
func (t *tee) Log(level hclog.Level, what string, args ...any) {
	t.Logger.Log(level, what, args...)
	t.note(level, what, args)
}

// Debug implements hclog.Logger.
func (t *tee) Debug(what string, args ...any) {
	t.Logger.Debug(what, args...)
	t.note(hclog.Debug, what, args)
}

// Info implements hclog.Logger.
func (t *tee) Info(what string, args ...any) {
	t.Logger.Info(what, args...)
	t.note(hclog.Info, what, args)
}

// Warn implements hclog.Logger.
func (t *tee) Warn(what string, args ...any) {
	t.Logger.Warn(what, args...)
	t.note(hclog.Warn, what, args)
}

// Error implements hclog.Logger.
func (t *tee) Error(what string, args ...any) {
	t.Logger.Error(what, args...)
	t.note(hclog.Error, what, args)
}

func (t *tee) note(level hclog.Level, what string, args []any) {
	switch {
	case level >= hclog.Info && level <= hclog.Error:
	case level == hclog.Debug && slices.Contains(alwaysKept, what):
		level = hclog.Info
	default:
		return
	}
	t.log.add(t.part, level, what, slices.Concat(t.implied, args))
}

// Named implements hclog.Logger.
func (t *tee) Named(name string) hclog.Logger {
	return &tee{t.Logger.Named(name), t.log, name, t.implied}
}

// ResetNamed implements hclog.Logger.
func (t *tee) ResetNamed(name string) hclog.Logger {
	return &tee{t.Logger.ResetNamed(name), t.log, name, t.implied}
}

// With implements hclog.Logger.
func (t *tee) With(args ...any) hclog.Logger {
	return &tee{t.Logger.With(args...), t.log, t.part, slices.Concat(t.implied, args)}
}
