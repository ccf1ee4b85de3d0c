// Debian builds the package for Debian and its relatives.
//
//	go run ./deploy/debian [-version 1.0.0] [-arch amd64] [-o dist]
//
// The version is as for deploy/release, and "dev" is one below all others. The package is the same bytes for the same commit.
package main
