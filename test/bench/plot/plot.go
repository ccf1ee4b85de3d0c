package plot

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strconv"
)

// Bars is a chart of horizontal bars in groups.
type Bars struct {
	Title  string
	Series []string // what the values of each group are of, at most as many as there are colours: 6
	Groups []Group
}

// Group is one bar for each series. Missing values and zeros have no bar.
type Group struct {
	Name   string
	Values []float64
}

// Lines is a chart of lines over a common axis.
type Lines struct {
	Title, XLabel string
	Series        []Series // 6 at most
	Marks         []Mark
}

// Series is one line. Its points go from left to right.
type Series struct {
	Name   string
	Points []Point
}

// Point is one value.
type Point struct{ X, Y float64 }

// Mark is a vertical line with words.
type Mark struct {
	X    float64
	Text string
}

// colours can be told apart by people who see some colours alike, on white and on black.
var colours = [...]string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"}

const (
	width      = 860
	margin     = 16
	rowHeight  = 13
	titleSpace = 58 // title and legend
)

// SVG returns the chart.
func (b Bars) SVG() []byte {
	const left, right = 300, 90
	largest := 0.0
	for _, group := range b.Groups {
		for _, value := range group.Values {
			largest = max(largest, finite(value))
		}
	}
	groupHeight := rowHeight*len(b.Series) + 10
	height := titleSpace + groupHeight*len(b.Groups) + margin
	s := newCanvas(height, b.Title, b.Series)
	scale := (width - left - right) / max(largest, math.SmallestNonzeroFloat64)
	for i, group := range b.Groups {
		top := titleSpace + i*groupHeight
		s.text(left-8, float64(top+rowHeight*len(b.Series)/2+4), "end", group.Name)
		for k, value := range group.Values[:min(len(group.Values), len(b.Series))] {
			if finite(value) == 0 {
				continue
			}
			y := float64(top + k*rowHeight)
			s.printf(`<rect x="%d" y="%s" width="%s" height="%d" fill="%s"/>`, left, num(y), num(value*scale), rowHeight-2, colours[k%len(colours)])
			s.text(left+value*scale+5, y+rowHeight-3, "start", compact(value))
		}
	}
	return s.end()
}

// SVG returns the chart.
func (l Lines) SVG() []byte {
	const left, bottom, plotHeight = 70, 40, 260
	height := titleSpace + plotHeight + bottom
	names := make([]string, len(l.Series))
	var right, top float64
	for i, series := range l.Series {
		names[i] = series.Name
		for _, p := range series.Points {
			right, top = max(right, finite(p.X)), max(top, finite(p.Y))
		}
	}
	for _, mark := range l.Marks {
		right = max(right, finite(mark.X))
	}
	xStep, yStep := step(right), step(top)
	top = math.Ceil(top/yStep) * yStep
	xScale, yScale := (width-left-margin)/max(right, xStep), plotHeight/max(top, yStep)
	x := func(v float64) float64 { return left + finite(v)*xScale }
	y := func(v float64) float64 { return titleSpace + plotHeight - finite(v)*yScale }

	s := newCanvas(height, l.Title, names)
	for i := range int(math.Round(top/yStep)) + 1 {
		v := float64(i) * yStep
		s.line(left, y(v), width-margin, y(v), `stroke-opacity="0.2"`)
		s.text(left-8, y(v)+4, "end", compact(v))
	}
	for i := range int(right/xStep) + 1 {
		v := float64(i) * xStep
		s.text(x(v), y(0)+16, "middle", compact(v))
	}
	s.text(left+(width-left-margin)/2, float64(height)-8, "middle", l.XLabel)
	for _, mark := range l.Marks {
		s.line(x(mark.X), titleSpace, x(mark.X), y(0), `stroke-dasharray="4 3"`)
		s.text(x(mark.X)+4, titleSpace+12, "start", mark.Text)
	}
	for i, series := range l.Series {
		s.printf(`<polyline fill="none" stroke="%s" stroke-width="1.6" points="`, colours[i%len(colours)])
		for k, p := range series.Points {
			if k > 0 {
				s.printf(" ")
			}
			s.printf("%s,%s", num(x(p.X)), num(y(p.Y)))
		}
		s.printf("\"/>\n")
	}
	return s.end()
}

// canvas is an SVG file that is being written.
type canvas struct{ bytes.Buffer }

func newCanvas(height int, title string, legend []string) *canvas {
	s := new(canvas)
	s.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" fill="#777" stroke="none">`+"\n",
		width, height, width, height)
	s.printf(`<text x="%d" y="22" font-size="15">%s</text>`+"\n", margin, html.EscapeString(title))
	at := float64(margin)
	for i, name := range legend {
		s.printf(`<rect x="%s" y="34" width="10" height="10" fill="%s"/>`, num(at), colours[i%len(colours)])
		s.text(at+14, 43, "start", name)
		at += 30 + 7*float64(len(name))
	}
	return s
}

func (s *canvas) printf(format string, args ...any) { fmt.Fprintf(s, format, args...) }

func (s *canvas) text(x, y float64, anchor, text string) {
	s.printf(`<text x="%s" y="%s" text-anchor="%s">%s</text>`+"\n", num(x), num(y), anchor, html.EscapeString(text))
}

func (s *canvas) line(x1, y1, x2, y2 float64, style string) {
	s.printf(`<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="#777" %s/>`+"\n", num(x1), num(y1), num(x2), num(y2), style)
}

func (s *canvas) end() []byte {
	s.printf("</svg>\n")
	return s.Bytes()
}

// num writes a coordinate with a tenth of a pixel.
func num(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// compact writes a value for people, with three digits or more.
func compact(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 3, 64) + "M"
	case v >= 1e4:
		return strconv.FormatFloat(math.Round(v/100)/10, 'f', -1, 64) + "k"
	case v >= 100:
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// step returns a round number that fits four to ten times into largest.
func step(largest float64) float64 {
	if largest <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(largest)))
	for _, part := range []float64{0.1, 0.2, 0.25, 0.5} {
		if largest/(power*part) <= 10 {
			return power * part
		}
	}
	return power
}

func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return 0
	}
	return v
}
