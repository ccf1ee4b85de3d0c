package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

var charts = map[string][]byte{
	"bars.svg": Bars{
		Title: "Requests a second <&>", Series: []string{"snakes", "etcd", "bare net/http"},
		Groups: []Group{
			{"PUT w=3, 256 B, 64 connections", []float64{15_432, 7_800}},
			{"GET r=1, 64 connections", []float64{30_000, 35_000.4, 36_123}},
			{"nothing", []float64{0, math.NaN(), math.Inf(1)}},
		},
	}.SVG(),
	"lines.svg": Lines{
		Title: "PUT w=quorum", XLabel: "seconds",
		Series: []Series{
			{"killed", []Point{{0, 9000}, {0.1, 9500}, {0.2, 0}, {0.3, 9100}}},
			{"frozen", []Point{{0, 9000}, {0.3, 12}}},
			{"none", nil},
		},
		Marks: []Mark{{0.15, "fault"}},
	}.SVG(),
	"empty.svg": Lines{Title: "empty"}.SVG(),
}

func TestChartsAreTheSameBytesAsBefore(t *testing.T) {
	for name, got := range charts {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got another chart; look at it, and run with -update if it is right:\n%s", name, got)
		}
	}
}

func TestChartsAreWellFormed(t *testing.T) {
	for name, chart := range charts {
		if bytes.Contains(chart, []byte("NaN")) || bytes.Contains(chart, []byte("Inf")) {
			t.Errorf("%s has a number that is none", name)
		}
		for d := xml.NewDecoder(bytes.NewReader(chart)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
		}
	}
}

func TestStepsAreRoundAndFew(t *testing.T) {
	for _, largest := range []float64{0.03, 1, 7, 9.9, 10, 99, 12_345, 1e9} {
		if n := largest / step(largest); n < 3.9 || n > 10.1 {
			t.Errorf("step(%v) = %v fits %v times, want 4 to 10", largest, step(largest), n)
		}
	}
}
