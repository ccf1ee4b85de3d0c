package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/protocol7/snakes/replication/version"
)

// kind is what a client asked for.
type kind string

const (
	put    kind = "put"
	remove kind = "delete"
	get    kind = "get"
)

// outcome is what a client knows of an operation after it.
type outcome string

const (
	// done: a write was acknowledged, or a read found a value.
	done outcome = "done"
	// absent: a read was told that there is nothing.
	absent outcome = "absent"
	// refused: it was answered that nothing was done, 4xx or "written":false.
	refused outcome = "refused"
	// unknown: there was no answer, or one that leaves it open. A write may happen at any time from then on.
	unknown outcome = "unknown"
)

// setting is a pair of levels that one client of a key keeps to. Keys of different settings are never the same.
type setting struct {
	letter string // of the keys
	r, w   string // the queries, empty for the default
	// quorate: any read and any write have a node in common, and reads repair before they answer. So clients read what was
	// acknowledged, nothing older than what was read, and no two sides of a split are both answered.
	quorate bool
	// durable: an acknowledged write outlives the loss of one disk.
	durable bool
}

// String implements fmt.Stringer.
func (s setting) String() string {
	name := func(parameter, query string) string {
		if query == "" {
			return "default " + parameter
		}
		return query[1:]
	}
	return name("w", s.w) + ", " + name("r", s.r)
}

var settings = map[string]setting{
	"d": {letter: "d", quorate: true, durable: true},
	"q": {letter: "q", r: "?r=quorum", w: "?w=quorum", quorate: true, durable: true},
	"a": {letter: "a", r: "?r=1", w: "?w=all", durable: true},
	"o": {letter: "o", r: "?r=1", w: "?w=1"},
}

// operation is one request of a client and what came of it. Times count from the beginning of the history.
type operation struct {
	Client  int
	Node    int // the coordinator
	Kind    kind
	Key     string
	Setting string // its letter
	Value   uint64 // number of the value that was put or found, 0 if none
	Start   time.Duration
	End     time.Duration
	Outcome outcome
	Version version.Version // of what was written or found, zero if nobody said
	Status  int             // 0: no answer
	Note    string          // what is wrong with the answer by itself, empty if nothing
}

// String implements fmt.Stringer.
func (o operation) String() string {
	what := fmt.Sprintf("%v-%v client %d at n%d: %s %s", o.Start.Round(time.Microsecond), o.End.Round(time.Microsecond),
		o.Client, o.Node, o.Kind, o.Key)
	if o.Value != 0 {
		what += fmt.Sprintf(" value %d", o.Value)
	}
	what += fmt.Sprintf(": %s (%d)", o.Outcome, o.Status)
	if !o.Version.IsZero() {
		what += fmt.Sprintf(" at %v", o.Version)
	}
	return what
}

// wrote reports whether o is a write that may have had an effect.
func (o operation) wrote() bool { return o.Kind != get && o.Outcome != refused }

// answered reports whether the node did what it was asked.
func (o operation) answered() bool { return o.Outcome == done || o.Outcome == absent }

// history is what clients did in one round. It is safe for concurrent use.
type history struct {
	began time.Time

	mu         sync.Mutex // guards the fields below
	values     uint64     // numbered so far
	operations []operation
	remarks    []string // violations that were seen on the way
}

func newHistory() *history { return &history{began: time.Now()} }

func (h *history) now() time.Duration { return time.Since(h.began) }

// number returns a number that no value of this history has yet.
func (h *history) number() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.values++
	return h.values
}

func (h *history) record(o operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations = append(h.operations, o)
}

// doubt takes for unsaid what nodes said within a period. A request may have been sent before.
func (h *history) doubt(nodes []int, p period) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.operations {
		if o := &h.operations[i]; slices.Contains(nodes, o.Node) && o.End > p.from && o.Start < p.to {
			o.Outcome, o.Version = unknown, version.Version{}
			if o.Kind == get {
				o.Value = 0
			}
		}
	}
}

// remark notes something that must not be, once.
func (h *history) remark(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.remarks, text) {
		h.remarks = append(h.remarks, text)
	}
}

// save writes one line of JSON for each operation.
func (h *history) save(w io.Writer) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	encoder := json.NewEncoder(w)
	for _, o := range h.operations {
		if err := encoder.Encode(o); err != nil {
			return err
		}
	}
	return nil
}

// minValue is the length of the shortest value: a number of 16 hexadecimal digits, and a newline.
const minValue = 17

// valueOf returns the value of a number: no two are the same, and no part of one is where another has the same.
func valueOf(key string, number uint64, size int) string {
	value := fmt.Appendf(make([]byte, 0, size+minValue), "%016x\n", number)
	random := rand.New(rand.NewPCG(number, uint64(len(key))))
	for len(value) < size {
		value = fmt.Appendf(value, "%016x\n", random.Uint64())
	}
	return string(value[:size])
}

// numberOf returns the number of a value of key, and an error unless the value is whole.
func numberOf(key, value string) (uint64, error) {
	if len(value) < minValue {
		return 0, fmt.Errorf("%d bytes that nobody put: %.40q", len(value), value)
	}
	number, err := strconv.ParseUint(value[:minValue-1], 16, 64)
	if err != nil || value != valueOf(key, number, len(value)) || len(value) != sizeOf(key, number) {
		return number, fmt.Errorf("%d bytes that nobody put, they begin with %.40q", len(value), value)
	}
	return number, nil
}

// sizeOf returns the size of the value with a number: mostly small, sometimes up to 64 KiB, and that for all bulk keys.
func sizeOf(key string, number uint64) int {
	random := rand.New(rand.NewPCG(number, 0))
	if strings.Contains(key, "bulk") {
		return 64 << 10
	}
	if random.IntN(40) == 0 {
		return minValue + random.IntN(64<<10)
	}
	return minValue + random.IntN(500)
}
