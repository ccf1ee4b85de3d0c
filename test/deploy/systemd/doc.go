// Package systemd has the tests of deploy/systemd: systemd's own checks of the unit, and what a node tells whoever started it by a
// socket like systemd's. No systemd has to run, but systemd-analyze must be there.
package systemd
