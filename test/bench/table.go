//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// table is rows of cells under a header. Its text is Markdown that people can read as it is.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// String returns the table, columns of figures aligned to the right.
func (t *table) String() string {
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text), 3)
		}
	}
	right := make([]bool, len(t.header))
	for i := range right {
		right[i] = len(t.rows) > 0
		for _, row := range t.rows {
			right[i] = right[i] && (row[i] == "" || row[i] == "-" || row[i][0] >= '0' && row[i][0] <= '9')
		}
	}
	var b strings.Builder
	line := func(cells []string) {
		for i, text := range cells {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
			if right[i] {
				text = gap + text
			} else {
				text += gap
			}
			b.WriteString("| " + text + " ")
		}
		b.WriteString("|\n")
	}
	line(t.header)
	for i := range t.header {
		rule := strings.Repeat("-", widths[i])
		if right[i] {
			rule = rule[1:] + ":"
		}
		b.WriteString("| " + rule + " ")
	}
	b.WriteString("|\n")
	for _, row := range t.rows {
		line(row)
	}
	return b.String()
}

// duration writes a latency with three digits: 850 µs, 1.23 ms, 12.3 s.
func duration(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return digits(d.Seconds()*1e3) + " ms"
	}
	return digits(d.Seconds()) + " s"
}

// digits writes a number with three digits, or all before the point.
func digits(v float64) string {
	switch {
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// thousands writes a whole number with commas.
func thousands(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// megabytes writes bytes in units of 10^6.
func megabytes(n uint64) string { return fmt.Sprintf("%d MB", (n+5e5)/1e6) }
