package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of processor time under /proc; it is 100 Hz in the interface of every Linux, whatever the kernel's
// own clock.
const tick = 10 * time.Millisecond

// Usage is what processes have used since they started; RSS is what they hold now.
type Usage struct {
	CPU     time.Duration // user and system, in steps of 10 ms
	Written uint64        // bytes
	RSS     uint64        // bytes in memory, shared ones included
}

// Sum returns the usage of all of pids together. A process that has ended is an error.
func Sum(pids []int) (Usage, error) {
	var sum Usage
	for _, pid := range pids {
		u, err := Of(pid)
		if err != nil {
			return Usage{}, err
		}
		sum.CPU += u.CPU
		sum.Written += u.Written
		sum.RSS += u.RSS
	}
	return sum, nil
}

// Of returns the usage of one process, which must be of the same user, or the caller root.
func Of(pid int) (Usage, error) {
	read := func(name string) []byte {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			return nil // what parses it says that it is missing
		}
		return data
	}
	var u Usage
	var errs [3]error
	u.CPU, errs[0] = parseStat(read("stat"))
	u.Written, errs[1] = number(read("io"), "write_bytes:")
	u.RSS, errs[2] = number(read("status"), "VmRSS:")
	u.RSS *= 1024
	if err := errors.Join(errs[:]...); err != nil {
		return Usage{}, fmt.Errorf("usage of process %d: %w", pid, err)
	}
	return u, nil
}

// parseStat returns utime + stime of /proc/PID/stat, proc(5).
func parseStat(text []byte) (time.Duration, error) {
	// The name of the program, the second field, is in parentheses and may have any characters.
	end := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[end+1:])
	if end < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("stat: %d fields after the name", len(fields))
	}
	var ticks uint64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseUint(string(field), 10, 63)
		if err != nil {
			return 0, fmt.Errorf("stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// number returns the number that follows name at the beginning of a line.
func number(text []byte, name string) (uint64, error) {
	for line := range bytes.Lines(text) {
		rest, found := bytes.CutPrefix(line, []byte(name))
		if !found {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			break
		}
		n, err := strconv.ParseUint(string(fields[0]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s %w", name, err)
		}
		return n, nil
	}
	return 0, fmt.Errorf("%s is missing", name)
}
