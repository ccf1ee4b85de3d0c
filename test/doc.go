// Package test tells stories of clusters that lose nodes, disks and networks, and checks what their users see.
//
// Each story starts real processes with package cluster, breaks something, and asks over HTTP, the way CONTRACT says
// that users may. What single packages promise each other is left to their own tests.
//
// A story that measures time runs alone; its figures go to the log (go test -v) and only generous deadlines fail. All
// others run in parallel. Stories of cut networks need Linux, root and iproute2, and are skipped elsewhere; CI=true
// turns every skip into a failure.
//
// Power cuts are played by package power, on a file system of its own.
//
// The commands of README.md are run from README.md itself, with package readme.
//
//	go test ./test/...
//	CI=true go test -race -shuffle=on -count=5 ./test/...
package test
