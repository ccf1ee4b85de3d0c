package cluster

import (
	"runtime"
	"sync"
)

// starter is one goroutine on one OS thread that never ends: a process started with a parent-death signal gets it when
// the starting thread ends, and Go ends a thread whose locked goroutine returns.
var starter = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		for call := range calls {
			call()
		}
	}()
	return calls
})

// onStarter runs f on the starter's thread and returns its error. Calls wait for each other.
func onStarter(f func() error) error {
	done := make(chan error, 1)
	starter() <- func() { done <- f() }
	return <-done
}
