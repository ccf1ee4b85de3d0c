//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: it needs Linux, for /proc and for stopping processes by signals")
	os.Exit(1)
}
