// Package container has the test of deploy/container: the image is built, looked at, and run from its own root directory, on a copy of
// this machine.
package container
