package ui

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// The plots are drawn in a box of this many units; the page stretches it.
const (
	plotWidth  = int64(Span / Step) // a unit a sample
	plotHeight = 60
)

// line is one line of a plot.
type line struct {
	// Name is in the legend with Now, the last value in words. Class tells how it is drawn.
	Name, Now, Class string
	// Points are those of a polyline; there are several where the line has gaps.
	Points []string
}

// plot is one of the small ones: what happened in the last Span.
type plot struct {
	Title string
	// Top is the value at the upper edge, in words.
	Top   string
	Lines []line
	// Words say the same as the picture.
	Words string
}

// series is one line before it is drawn.
type series struct {
	name, class string
	value       func(Sample) float32
	gaps        bool // 0 means that there is nothing
}

// plots returns those of the samples as of now.
func plots(samples []Sample, now time.Time) []plot {
	return []plot{
		draw("Requests", perSecond, samples, now,
			series{"reads", "a", func(s Sample) float32 { return s.Reads }, false},
			series{"writes", "b", func(s Sample) float32 { return s.Writes }, false},
			series{"failed", "bad", func(s Sample) float32 { return s.Failed }, false}),
		draw("Time that reads take", ms, samples, now,
			series{"99 of 100", "a", func(s Sample) float32 { return s.ReadMost }, true},
			series{"half", "a thin", func(s Sample) float32 { return s.ReadHalf }, true}),
		draw("Time that writes take", ms, samples, now,
			series{"99 of 100", "b", func(s Sample) float32 { return s.WriteMost }, true},
			series{"half", "b thin", func(s Sample) float32 { return s.WriteHalf }, true}),
	}
}

func draw(title string, words func(float64) string, samples []Sample, now time.Time, all ...series) plot {
	first := now.Unix() - int64(Span/time.Second)
	highest := float32(0)
	for _, s := range samples {
		for _, of := range all {
			highest = max(highest, of.value(s))
		}
	}
	top := roundUp(float64(highest))
	p := plot{Title: title, Top: words(top)}
	p.Words = fmt.Sprintf("%s in the last 15 minutes.", title)
	for _, of := range all {
		l, most := line{Name: of.name, Class: of.class, Now: "–"}, float32(0)
		var points []byte
		end := func() {
			if len(points) > 0 {
				l.Points = append(l.Points, string(points))
			}
			points = nil
		}
		before := int64(0)
		for _, s := range samples {
			v := of.value(s)
			if s.At < first {
				continue
			}
			if of.gaps && v == 0 || s.At-before > 3*int64(Step/time.Second) {
				end()
			}
			before = s.At
			if of.gaps && v == 0 {
				continue
			}
			x := float64(s.At-first) / Step.Seconds()
			y := plotHeight * (1 - float64(v)/top)
			points = strconv.AppendFloat(points, math.Round(x), 'f', -1, 64)
			points = append(points, ',')
			points = strconv.AppendFloat(points, math.Round(y*10)/10, 'f', -1, 64)
			points = append(points, ' ')
			most = max(most, v)
		}
		end()
		if len(samples) > 0 {
			if last := of.value(samples[len(samples)-1]); last > 0 || !of.gaps {
				l.Now = words(float64(last))
			}
		}
		p.Words += fmt.Sprintf(" %s: now %s, at most %s.", of.name, l.Now, words(float64(most)))
		p.Lines = append(p.Lines, l)
	}
	return p
}

// roundUp returns a number that is easy to read, v or not much above it, at least 1.
func roundUp(v float64) float64 {
	if v <= 1 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8} {
		if v <= step*power {
			return step * power
		}
	}
	return 10 * power
}

// perSecond returns a rate in few digits.
func perSecond(v float64) string {
	if v == 0 || v >= 10 {
		return thousands(uint64(math.Round(v))) + "/s"
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + "/s"
}
