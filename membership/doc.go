// Package membership knows who is in the cluster.
package membership
