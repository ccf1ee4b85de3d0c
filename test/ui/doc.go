// Package ui looks at the operators' page in a real browser: Debian's chromium, without a window.
//
// The nodes are real processes, see package cluster. What is on the page is read as a person would
// read it, its words and titles; each view of it is checked by axe-core for what keeps people from
// using it, and must ask nobody but its node for anything. Pictures of all views are in screenshots/
// after a run, which is kept out of the repository: whether a page is beautiful no test can tell.
//
// Without chromium, or without npm to fetch axe-core, what needs them is skipped and says so; with
// CI=true that is a failure.
package ui
