package metrics

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// other is the label of what has none of its own.
const other = "other"

var (
	// methods and codes are those that get labels of their own. The first stands for all others.
	methods = [...]string{other, http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}
	codes   = [...]int{
		0, 200, 201, 202, 204, 303, 304, 307, 400, 401, 403, 404, 405, 408, 409, 410, 411, 412, 413, 421, 429, 431,
		500, 501, 503, 507,
	}
	// numbers are those of codes in there.
	numbers = func() (numbers [600]uint8) {
		for number, code := range codes {
			numbers[code] = uint8(number)
		}
		numbers[0] = 0
		return numbers
	}()
	// expected are answers of requests for keys that are counted from zero on, so that the first
	// one of them shows as an increase.
	expected = map[string][]int{
		http.MethodGet:    {200, 304, 404, 500, 503},
		http.MethodHead:   {200, 404, 503},
		http.MethodPut:    {201, 413, 500, 503, 507},
		http.MethodDelete: {204, 500, 503},
	}
)

// keyPath is the path of keys, as HTTP is told of it.
const keyPath = "/{key}"

// HTTP counts and times requests. Safe for concurrent use.
type HTTP struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	paths     []string
	exact     map[string]int // numbers in paths
	variable  map[string]int // the same, of the part before the variable one
	cells     [][len(methods)]cell
}

// cell has what belongs to one path and method, once it is needed.
type cell struct {
	duration atomic.Pointer[prometheus.Observer]
	answers  [len(codes)]atomic.Pointer[prometheus.Counter]
}

// HTTP returns what counts requests to the given paths. The last part of a path may be a variable
// one, in braces: "/-/inspect/{key}". It is called once.
func (m *Metrics) HTTP(paths []string) *HTTP {
	h := &HTTP{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "snakes_http_requests_total", Help: "HTTP requests that were answered, those between nodes included.",
		}, []string{"method", "path", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "snakes_http_request_duration_seconds", Help: "How long HTTP requests took, from their headers to the end of the answer.",
			Buckets: waits[:],
		}, []string{"method", "path"}),
		paths: []string{other}, exact: make(map[string]int), variable: make(map[string]int),
	}
	for _, path := range paths {
		before, _, isVariable := strings.Cut(path, "{")
		into, at := h.exact, path
		if isVariable {
			into, at = h.variable, before
		}
		if _, known := into[at]; !known {
			into[at] = len(h.paths)
			h.paths = append(h.paths, path)
		}
	}
	h.cells = make([][len(methods)]cell, len(h.paths))
	if _, keys := h.variable["/"]; keys {
		for method, codes := range expected {
			for _, code := range codes {
				h.requests.WithLabelValues(method, keyPath, strconv.Itoa(code))
			}
		}
	}
	m.registry.MustRegister(h.requests, h.durations)
	return h
}

// Observe enters a request that was answered. path is the one that was sent, without a query.
// Once such a request was seen before, it takes no lock and no memory.
func (h *HTTP) Observe(method, path string, status int, took time.Duration) {
	at, by, code := h.path(path), methodNumber(method), 0
	if 0 <= status && status < len(numbers) {
		code = int(numbers[status])
	}
	cell := &h.cells[at][by]
	answers := cell.answers[code].Load()
	duration := cell.duration.Load()
	if answers == nil || duration == nil {
		answers, duration = h.fill(cell, at, by, code)
	}
	(*answers).Inc()
	(*duration).Observe(took.Seconds())
}

// fill makes what is missing in a cell. Two who do it at once find the same.
func (h *HTTP) fill(cell *cell, at, by, code int) (*prometheus.Counter, *prometheus.Observer) {
	label := other
	if code > 0 {
		label = strconv.Itoa(codes[code])
	}
	answers := h.requests.WithLabelValues(methods[by], h.paths[at], label)
	duration := h.durations.WithLabelValues(methods[by], h.paths[at])
	cell.answers[code].Store(&answers)
	cell.duration.Store(&duration)
	return &answers, &duration
}

func (h *HTTP) path(path string) int {
	if number, known := h.exact[path]; known {
		return number
	}
	last := strings.LastIndexByte(path, '/')
	return h.variable[path[:last+1]] // 0 if there is none
}

func methodNumber(method string) int {
	for number, name := range methods {
		if name == method {
			return number
		}
	}
	return 0
}

// Requests is what became of requests of one kind so far.
type Requests struct {
	// Count is how many were answered, Failed how many of these by a status from 500 on.
	Count, Failed uint64
	// Buckets is how many took at most so long as the bound of the same index says, see Bounds;
	// those that took longer are in none.
	Buckets [len(waits)]uint64
}

// Bounds are the upper ones of Requests.Buckets in seconds, ascending.
func Bounds() []float64 { return waits[:] }

// Keys returns what became of requests for keys: of those that read, and of those that write.
func (h *HTTP) Keys() (reads, writes Requests) {
	at, known := h.variable["/"]
	if !known {
		return Requests{}, Requests{}
	}
	for by, method := range methods {
		into := &writes
		if method == http.MethodGet || method == http.MethodHead {
			into = &reads
		}
		into.add(&h.cells[at][by])
	}
	return reads, writes
}

// add adds the requests that a cell has counted.
func (r *Requests) add(c *cell) {
	var m dto.Metric
	for code := range codes {
		answers := c.answers[code].Load()
		if answers == nil || codes[code] < http.StatusInternalServerError {
			continue
		}
		if err := (*answers).Write(&m); err == nil { // it never fails for a counter
			r.Failed += uint64(m.GetCounter().GetValue())
		}
	}
	duration := c.duration.Load()
	if duration == nil {
		return
	}
	m.Reset()
	if err := (*duration).(prometheus.Metric).Write(&m); err != nil {
		return // it never fails for a histogram
	}
	r.Count += m.GetHistogram().GetSampleCount()
	before := uint64(0)
	for i, bucket := range m.GetHistogram().GetBucket() {
		r.Buckets[i] += bucket.GetCumulativeCount() - before
		before = bucket.GetCumulativeCount()
	}
}

// Since returns what was added to r after before, which is an earlier r.
func (r Requests) Since(before Requests) Requests {
	r.Count -= before.Count
	r.Failed -= before.Failed
	for i := range r.Buckets {
		r.Buckets[i] -= before.Buckets[i]
	}
	return r
}

// Quantile returns within which time in seconds a share q, from 0 to 1, of the requests was
// answered: 0 if there were none, and the highest bound if it is beyond that. Within a bucket
// requests are taken to be spread evenly.
func (r Requests) Quantile(q float64) float64 {
	rank, below, sum := q*float64(r.Count), 0.0, 0.0
	if r.Count == 0 {
		return 0
	}
	for i, bound := range waits {
		if n := float64(r.Buckets[i]); n > 0 && sum+n >= rank {
			return below + (bound-below)*max(0, rank-sum)/n
		}
		sum += float64(r.Buckets[i])
		below = bound
	}
	return waits[len(waits)-1]
}
