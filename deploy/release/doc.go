// Release builds what a release consists of: the program for each system, and the checksums of all.
//
//	go run ./deploy/release [-version 1.0.0] [-o dist] [-only linux/amd64,linux/arm64]
//
// The files are static, hold no paths of the machine that they were built on, and are the same bytes whoever builds
// them, from the same commit and with the same release of Go: that of the go.mod file, or the one that "snakes version" tells.
// Without -version it is that of the tag on the commit, v1.0.0 for instance, and dev if there is none.
package main
