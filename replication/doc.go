// Package replication decides what a replicated write or read means.
package replication
