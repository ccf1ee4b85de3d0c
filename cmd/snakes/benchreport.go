package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/protocol7/snakes/node/client/load"
)

// benchReport is what bench tells. Its JSON is what -o json prints.
type benchReport struct {
	Cluster     string        `json:"cluster"`
	Known       int           `json:"known"`
	Alive       int           `json:"alive"`
	Servers     []string      `json:"servers"`
	Connections int           `json:"connections"`
	Size        int           `json:"size"`
	Keys        int           `json:"keys"`
	Fresh       bool          `json:"fresh"`
	Rate        float64       `json:"rate"`        // 0: as many as are answered
	ReadLevel   string        `json:"read_level"`  // empty: the default one
	WriteLevel  string        `json:"write_level"` // the same
	Results     []benchResult `json:"results"`
}

// benchResult is one workload. Latencies are of the requests that did not fail.
type benchResult struct {
	Workload  string            `json:"workload"`
	Seconds   float64           `json:"seconds"`
	Requests  uint64            `json:"requests"`
	PerSecond float64           `json:"per_second"`
	P50       float64           `json:"p50_ms"`
	P99       float64           `json:"p99_ms"`
	P999      float64           `json:"p999_ms"`
	Max       float64           `json:"max_ms"`
	Failures  uint64            `json:"failures"`
	Failed    map[string]uint64 `json:"failed,omitempty"` // by status, "timeout" or "connection"

	reasons, example string
}

func newBenchResult(workload string, r load.Result) benchResult {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	return benchResult{
		Workload: workload, Seconds: r.Elapsed.Seconds(), Requests: r.Requests(), PerSecond: r.Throughput(),
		P50: ms(r.Quantile(0.5)), P99: ms(r.Quantile(0.99)), P999: ms(r.Quantile(0.999)), Max: ms(r.Max()),
		Failures: r.Failures(), Failed: r.Failed, reasons: r.Reasons(), example: r.Example,
	}
}

// failure returns an error if any request has failed.
func (r benchReport) failure() error {
	for _, result := range r.Results {
		if result.Failures > 0 {
			return fmt.Errorf("%s: %d of %d requests failed (%s), for instance with %s", result.Workload,
				result.Failures, result.Failures+result.Requests, result.reasons, printable(result.example))
		}
	}
	return nil
}

// printable returns text without what would control a terminal: a server may have sent it.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if strconv.IsPrint(c) {
			return c
		}
		return ' '
	}, text)
}

func (b *bench) print(r benchReport) error {
	if b.output.value == "json" {
		text, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode the results: %w", err)
		}
		return b.remote.write(append(text, '\n'))
	}
	return b.remote.write(r.table())
}

// table returns r for people.
func (r benchReport) table() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "cluster %s: %d known, %d alive; %d connections, %d keys of %v", r.Cluster, r.Known, r.Alive, r.Connections, r.Keys, new(byteSize(r.Size)))
	if r.Rate > 0 {
		fmt.Fprintf(&b, ", %v requests a second wanted", r.Rate)
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "WORKLOAD\tREQUESTS/S\tP50 MS\tP99 MS\tP99.9 MS\tMAX MS\tREQUESTS\tFAILED\t")
	for _, x := range r.Results {
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t%d\t\n", x.Workload, x.PerSecond, x.P50, x.P99, x.P999, x.Max, x.Requests, x.Failures)
	}
	_ = t.Flush() // a buffer takes everything
	return b.Bytes()
}

// progress is a line on a terminal that shows how far something is. Elsewhere it shows nothing.
type progress struct {
	out   io.Writer // nil: no terminal
	name  string
	shown time.Time
}

func newProgress(out io.Writer, name string) *progress {
	if !isTerminal(out) {
		out = nil
	}
	return &progress{out: out, name: name}
}

// show draws the line anew, five times a second at most. done is 0 to 1.
func (p *progress) show(done, perSecond float64) {
	p.draw(func() string { return bar(p.name, done, perSecond) })
}

// count is show for something of which nobody knows how large it is.
func (p *progress) count(bytes int64, perSecond float64) {
	p.draw(func() string { return fmt.Sprintf("%-7.7s %d bytes %9.0f/s", p.name, bytes, perSecond) })
}

func (p *progress) draw(line func() string) {
	if p.out == nil || time.Since(p.shown) < 200*time.Millisecond {
		return
	}
	p.shown = time.Now()
	fmt.Fprint(p.out, "\r"+line()+"\x1b[K")
}

// clear makes room for what is printed next.
func (p *progress) clear() {
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// bar returns a line of less than 80 characters.
func bar(name string, done, perSecond float64) string {
	const width = 40
	done = min(max(done, 0), 1)
	full := int(done * width)
	return fmt.Sprintf("%-7.7s [%s%s] %3.0f %% %9.0f/s", name, strings.Repeat("#", full), strings.Repeat(".", width-full), 100*done, perSecond)
}
