// Package ui renders the operators' page of one node: HTML that is whole without a script, and the
// parts of it that change, for a page that stays open.
//
// It leaves to others: what is true (a [State] comes from outside), who may see it, and how it
// travels. It asks nobody and reads no clock.
//
// # Terms
//
// A part is a section of the page with an id of its own that may change while the page is open.
// [Parts] renders all of them and names their contents, so that whoever sends them can leave out
// what its reader has. An asset is a file that pages refer to; its name has a hash of what it
// holds, so that it may be kept for ever.
//
// # Invariants
//
//   - A page refers to nothing outside of the node but to the pages of other members.
//   - No markup comes from a [State]: html/template escapes all of it. There is no style or script
//     within a page, so that [Policy] forbids both.
//   - The page says nothing by colour alone, and nothing that needs the script: that only replaces
//     parts by newer ones, copies commands, and pauses.
//
// # When others misbehave
//
// A member that has not answered has a row that says so. Names, reasons and events of others are
// text. Whoever looks at a page whose node is gone is told so by the script, and finds the links to
// the other members in what is there.
//
// # Example
//
//	err := ui.Page(w, flush, state, lookUp)
package ui
