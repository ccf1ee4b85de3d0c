package ui

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// thousands returns n with its digits in groups.
func thousands(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// size returns a number of bytes in words.
func size(bytes uint64) string {
	value, units := float64(bytes), []string{"B", "kB", "MB", "GB", "TB", "PB"}
	for len(units) > 1 && value >= 999.5 {
		value, units = value/1000, units[1:]
	}
	if value < 9.95 && units[0] != "B" {
		return fmt.Sprintf("%.1f %s", value, units[0])
	}
	return fmt.Sprintf("%.0f %s", value, units[0])
}

// ago returns how long something has lasted, coarser the longer it has.
func ago(since, now time.Time) string {
	switch d := max(0, now.Sub(since)); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return thousands(uint64(d/(24*time.Hour))) + " d"
	}
}

// ms returns milliseconds in few digits.
func ms(v float64) string {
	switch {
	case v <= -10_000 || v >= 10_000:
		return fmt.Sprintf("%.0f s", v/1000)
	case v <= -1000 || v >= 1000:
		return fmt.Sprintf("%.1f s", v/1000)
	case v <= -100 || v >= 100:
		return fmt.Sprintf("%.0f ms", v)
	case v <= -10 || v >= 10:
		return fmt.Sprintf("%.1f ms", v)
	}
	return fmt.Sprintf("%.2f ms", v)
}

// brief is ms where there is little room.
func brief(v float64) string {
	switch {
	case v < 9.95:
		return fmt.Sprintf("%.1f ms", v)
	case v < 1000:
		return fmt.Sprintf("%.0f ms", v)
	}
	return ms(v)
}

// short returns the names of members for where there is little room: without the domain, if all
// have the same.
func short(members []Member) (names []string) {
	domain := ""
	for i, m := range members {
		_, after, _ := strings.Cut(m.Name, ".")
		if i == 0 {
			domain = after
		}
		if after != domain || net.ParseIP(m.Name) != nil {
			domain = ""
		}
	}
	for _, m := range members {
		name := m.Name
		if domain != "" {
			name = strings.TrimSuffix(name, "."+domain)
		}
		names = append(names, name)
	}
	return names
}

// signed is ms with a sign.
func signed(v float64) string {
	if v > 0 {
		return "+" + ms(v)
	}
	return strings.Replace(ms(v), "-", "−", 1)
}

// full is how much of a disk is used, in percent.
func full(free, size uint64) int {
	if size == 0 {
		return 0
	}
	return int(100 - min(100, free*100/size))
}

// scarce reports whether a disk will soon be full.
func scarce(free, size uint64) bool { return size > 0 && full(free, size) >= 90 }

// fact is one of an event.
type fact struct{ Name, Value string }

// leading and trailing are facts that come first and last.
var leading, trailing = []string{"node", "state", "before", "peer"}, []string{"error", "address", "id"}

// facts returns those of an event in the order in which they are read best.
func facts(all map[string]string) (ordered []fact) {
	place := func(name string) int {
		if i := slices.Index(leading, name); i >= 0 {
			return i
		}
		if i := slices.Index(trailing, name); i >= 0 {
			return len(leading) + 1 + i
		}
		return len(leading)
	}
	for name, value := range all {
		if _, named := all["node"]; named && (name == "id" || name == "address") {
			continue // the table of members has them
		}
		if strings.HasSuffix(name, "id") && len(value) == 32 {
			value = value[:8] + "…" // enough to tell nodes apart
		}
		ordered = append(ordered, fact{name, value})
	}
	slices.SortFunc(ordered, func(x, y fact) int {
		if d := place(x.Name) - place(y.Name); d != 0 {
			return d
		}
		return strings.Compare(x.Name, y.Name)
	})
	return ordered
}
