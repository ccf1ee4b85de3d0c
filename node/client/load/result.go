package load

import (
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept in microseconds with three significant digits, up to maxLatency.
const (
	unit       = time.Microsecond
	maxLatency = 2 * time.Minute
)

// Result is what came of the requests of a window. The zero Result is of none.
type Result struct {
	// Elapsed is how long the window was.
	Elapsed time.Duration
	// Failed counts failures by reason: a status such as "503", "timeout" or "connection".
	Failed map[string]uint64
	// Example is one of the failures in words, empty if there is none. It may have what a server sent.
	Example string

	latencies *hdrhistogram.Histogram // of those that succeeded; nil if there are none
}

// Requests returns how many requests succeeded.
func (r Result) Requests() uint64 {
	if r.latencies == nil {
		return 0
	}
	return uint64(r.latencies.TotalCount())
}

// Failures returns how many requests failed.
func (r Result) Failures() uint64 {
	var n uint64
	for _, count := range r.Failed {
		n += count
	}
	return n
}

// Throughput returns how many requests succeeded in a second; 0 if the window has no length.
func (r Result) Throughput() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Requests()) / r.Elapsed.Seconds()
}

// Quantile returns the latency that the part q of the requests, 0 to 1, did not exceed, with an error of up to 0.1 %.
// It is 0 if none succeeded.
func (r Result) Quantile(q float64) time.Duration {
	if r.latencies == nil {
		return 0
	}
	return time.Duration(r.latencies.ValueAtQuantile(q*100)) * unit
}

// Max returns the longest latency.
func (r Result) Max() time.Duration { return r.Quantile(1) }

// Reasons returns the failures in words, the most frequent first: "12 x 503, 1 x timeout". It is empty if there are none.
func (r Result) Reasons() string {
	reasons := slices.SortedFunc(maps.Keys(r.Failed), func(a, b string) int {
		if r.Failed[a] != r.Failed[b] {
			return int(int64(r.Failed[b]) - int64(r.Failed[a]))
		}
		return strings.Compare(a, b)
	})
	for i, reason := range reasons {
		reasons[i] = strconv.FormatUint(r.Failed[reason], 10) + " x " + reason
	}
	return strings.Join(reasons, ", ")
}

// Add adds another window to r, as if one had followed the other.
func (r *Result) Add(other Result) {
	r.Elapsed += other.Elapsed
	for reason, count := range other.Failed {
		r.fail(reason, "", count)
	}
	if r.Example == "" {
		r.Example = other.Example
	}
	if other.latencies != nil {
		r.histogram().Merge(other.latencies) // both have one range: nothing is dropped
	}
}

func (r *Result) histogram() *hdrhistogram.Histogram {
	if r.latencies == nil {
		r.latencies = hdrhistogram.New(1, int64(maxLatency/unit), 3)
	}
	return r.latencies
}

// record adds one request that took so long and ended with err.
func (r *Result) record(took time.Duration, err error) {
	if err != nil {
		r.fail(reasonOf(err), err.Error(), 1)
		return
	}
	_ = r.histogram().RecordValue(int64(min(max(took, unit), maxLatency) / unit)) // it is in range
}

func (r *Result) fail(reason, example string, count uint64) {
	if r.Failed == nil {
		r.Failed = make(map[string]uint64)
	}
	r.Failed[reason] += count
	if r.Example == "" {
		r.Example = example
	}
}

func reasonOf(err error) string {
	if refused, ok := errors.AsType[*statusError](err); ok {
		return strconv.Itoa(refused.status)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "timeout"
	}
	return "connection"
}
