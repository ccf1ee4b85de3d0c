// Package proc reads what Linux tells of a process under /proc: processor time, memory, bytes written.
//
// It leaves to others when to look and what to make of the differences. On other systems every call is an error.
//
// What the kernel counts as written is memory made dirty by the process, in pages or, on file systems with large folios,
// in units of up to 2 MiB, whether or not the disk gets it. It tells whether a process writes, not how much the disk has
// to do for it.
//
//	before, err := proc.Sum(pids)
//	...
//	after, err := proc.Sum(pids)
//	fmt.Println(after.CPU - before.CPU)
package proc
