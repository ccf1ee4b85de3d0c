package node

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// repeatTime is how long a failure that was logged is not logged again, but counted.
	repeatTime = 30 * time.Second
	// maxRepeats is how many failures are known again.
	maxRepeats = 1000
)

// quiet is a logger that bears with what goes on: a failure that repeats itself is written once,
// and then with the number of times that it was not. And it leaves keys out, which are the users'
// business. At debug it does neither: who asks for everything gets it.
type quiet struct {
	hclog.Logger
	repeats *repeats
}

// newQuiet returns log with fewer lines. It is for the root of a node's loggers.
func newQuiet(log hclog.Logger) hclog.Logger {
	return &quiet{log, &repeats{now: time.Now, lines: make(map[string]*repeated)}}
}

// repeats is what failures were logged not long ago.
type repeats struct {
	now func() time.Time

	mu    sync.Mutex // guards the field below
	lines map[string]*repeated
}

// repeated is a line since it was written last.
type repeated struct {
	at    time.Time
	times uint64 // that it was not
}

// admit reports whether a line is to be written now, and how often it was not since it was last.
func (r *repeats) admit(line string) (times uint64, write bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	known := r.lines[line]
	if known != nil && now.Sub(known.at) < repeatTime {
		known.times++
		return 0, false
	}
	if known == nil && len(r.lines) >= maxRepeats {
		clear(r.lines)
	}
	if known != nil {
		times = known.times
	}
	r.lines[line] = &repeated{at: now}
	return times, true
}

// distinct are the facts that tell one failure from another. Of those in wording only the words do:
// their numbers may be those of connections, which are others each time.
var (
	distinct = []string{"node", "id", "method", "status", "awaited"}
	wording  = []string{"error", "file", "line"}
)

var numbers = regexp.MustCompile(`[0-9]+`)

// Log implements hclog.Logger.
func (q *quiet) Log(level hclog.Level, message string, facts ...any) {
	if q.IsDebug() || level < hclog.Info {
		q.Logger.Log(level, message, facts...)
		return
	}
	facts = withoutKeys(facts)
	if level < hclog.Warn {
		q.Logger.Log(level, message, facts...)
		return
	}
	var line strings.Builder
	fmt.Fprintf(&line, "%s %d %s", q.Name(), level, message)
	for i := 0; i+1 < len(facts); i += 2 {
		name, _ := facts[i].(string)
		switch {
		case slices.Contains(distinct, name):
			fmt.Fprintf(&line, " %v", facts[i+1])
		case slices.Contains(wording, name):
			line.WriteString(numbers.ReplaceAllString(fmt.Sprint(" ", facts[i+1]), "0"))
		}
	}
	times, write := q.repeats.admit(line.String())
	if !write {
		return
	}
	if times > 0 {
		facts = append(facts, "repeated", times)
	}
	q.Logger.Log(level, message, facts...)
}

// Info implements hclog.Logger.
func (q *quiet) Info(message string, facts ...any) { q.Log(hclog.Info, message, facts...) }

// Warn implements hclog.Logger.
func (q *quiet) Warn(message string, facts ...any) { q.Log(hclog.Warn, message, facts...) }

// Error implements hclog.Logger.
func (q *quiet) Error(message string, facts ...any) { q.Log(hclog.Error, message, facts...) }

// With implements hclog.Logger.
func (q *quiet) With(facts ...any) hclog.Logger { return &quiet{q.Logger.With(facts...), q.repeats} }

// Named implements hclog.Logger.
func (q *quiet) Named(name string) hclog.Logger { return &quiet{q.Logger.Named(name), q.repeats} }

// ResetNamed implements hclog.Logger.
func (q *quiet) ResetNamed(name string) hclog.Logger {
	return &quiet{q.Logger.ResetNamed(name), q.repeats}
}

// keyFile finds the names of files that hold keys.
var keyFile = regexp.MustCompile(`(keys[/\\][0-9a-f]{2}[/\\])[^\s:"]+`)

// withoutKeys returns facts without keys, and names of files without those in them. facts stay as
// they are.
func withoutKeys(facts []any) []any {
	kept := make([]any, 0, len(facts)+2)
	for i := 0; i+1 < len(facts); i += 2 {
		name, value := facts[i], facts[i+1]
		if name == "key" {
			continue
		}
		if text, is := textOf(value); is && keyFile.MatchString(text) {
			value = keyFile.ReplaceAllString(text, "${1}...")
		}
		kept = append(kept, name, value)
	}
	return kept
}

// textOf returns the text of a value that has one, be it an error's.
func textOf(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case error:
		return v.Error(), true
	}
	return "", false
}
