package membership

import (
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-metrics"
)

// Stats is what a Membership has seen since it was made.
type Stats struct {
	// RosterChanges is how often the roster in force became another one since Start.
	RosterChanges uint64
	// Gossip is what memberlist measures, by its own names without "memberlist.", such as
	// "udp.sent"; what memberlist has not met yet is left out. The caller owns the map.
	Gossip map[string]Measure
}

// Measure is what was told under one name.
type Measure struct {
	// Count is how often something was told, Sum the sum of all that was. Times are in seconds.
	Count uint64
	Sum   float64
	// Last is what was told last.
	Last float64
}

// Stats returns what was seen so far. It does not block.
func (m *Membership) Stats() Stats {
	m.mu.Lock()
	changes := m.rosterChanges
	m.mu.Unlock()
	return Stats{RosterChanges: changes, Gossip: m.measures.all()}
}

// measures takes what memberlist measures for one Membership.
type measures struct {
	mu     sync.Mutex // guards the field below
	byName map[string]Measure
}

func (m *measures) all() map[string]Measure {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.byName)
}

func (m *measures) add(name string, value float32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byName == nil {
		m.byName = make(map[string]Measure)
	}
	one := m.byName[name]
	one.Count++
	one.Sum += float64(value)
	one.Last = float64(value)
	m.byName[name] = one
}

// memberlist tells what it measures to one place for the whole process, whatever its
// configuration, and can only add labels to it. So there has to be such a place: it takes what
// has the label of a Membership that runs, and drops all else.
var (
	// measuring are the *measures of those that run, by the value of their label.
	measuring sync.Map
	// measure has memberlist tell measuring.
	measure = sync.OnceValue(func() error {
		_, err := metrics.NewGlobal(&metrics.Config{TimerGranularity: time.Second, FilterDefault: true}, new(sink))
		return err
	})
)

// measureLabel names the Membership that something is told of.
const measureLabel = "snakes"

// beginMeasuring returns the labels for memberlist to use.
func (m *Membership) beginMeasuring() ([]metrics.Label, error) {
	label := m.measureLabel()
	measuring.Store(label, &m.measures)
	return []metrics.Label{{Name: measureLabel, Value: label}}, measure()
}

func (m *Membership) endMeasuring() { measuring.Delete(m.measureLabel()) }

// measureLabel is no other's in this process, be it one with the same id.
func (m *Membership) measureLabel() string {
	return m.cfg.ID + "-" + strconv.FormatUint(m.cfg.Origin, 16)
}

// sink gives what memberlist measures to the measures that its labels name.
type sink struct{ metrics.BlackholeSink }

func (*sink) tell(key []string, value float32, labels []metrics.Label) {
	name := strings.TrimPrefix(strings.Join(key, "."), "memberlist.")
	var of *measures
	for _, l := range labels {
		if l.Name != measureLabel {
			name += "." + l.Value
		} else if found, running := measuring.Load(l.Value); running {
			of = found.(*measures)
		}
	}
	if of != nil {
		of.add(name, value)
	}
}

// SetGaugeWithLabels implements metrics.MetricSink.
func (s *sink) SetGaugeWithLabels(key []string, value float32, labels []metrics.Label) {
	s.tell(key, value, labels)
}

// IncrCounterWithLabels implements metrics.MetricSink.
func (s *sink) IncrCounterWithLabels(key []string, value float32, labels []metrics.Label) {
	s.tell(key, value, labels)
}

// AddSampleWithLabels implements metrics.MetricSink.
func (s *sink) AddSampleWithLabels(key []string, value float32, labels []metrics.Label) {
	s.tell(key, value, labels)
}
