package ui

import (
	"slices"
	"sync"
	"time"
)

const (
	// Span is how far back the plots go, Step how far apart samples are.
	Span = 15 * time.Minute
	Step = 5 * time.Second
)

// Sample is what happened to requests for keys in the Step before At.
type Sample struct {
	// At is in seconds since 1970.
	At int64
	// Reads, Writes and Failed are requests a second; Failed are those answered by 5xx.
	Reads, Writes, Failed float32
	// The times in milliseconds within which half, and 99 of 100, were answered; 0: there were none.
	ReadHalf, ReadMost, WriteHalf, WriteMost float32
}

// History keeps the samples of the last Span, 40 bytes each. Safe for concurrent use.
type History struct {
	mu      sync.Mutex // guards samples
	samples []Sample   // ascending
}

// Add adds a sample that is later than those before, and forgets what is older than Span.
func (h *History) Add(s Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := 0
	for old < len(h.samples) && h.samples[old].At <= s.At-int64(Span/time.Second) {
		old++
	}
	h.samples = append(slices.Delete(h.samples, 0, old), s)
}

// Samples returns what is kept, ascending. The caller owns it.
func (h *History) Samples() []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.samples)
}
