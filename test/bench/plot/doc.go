// Package plot draws bars and lines as SVG.
//
// It leaves to others what the figures mean. What it draws is plain SVG 1.1 without scripts, readable on light and dark
// pages, and the same bytes for the same figures. Values are finite and not negative; others are drawn as 0.
//
//	os.WriteFile("throughput.svg", plot.Bars{
//		Title: "Requests a second", Series: []string{"a", "b"},
//		Groups: []plot.Group{{Name: "PUT", Values: []float64{15000, 7000}}},
//	}.SVG(), 0o644)
package plot
