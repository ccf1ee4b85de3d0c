//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// floor is how long the disk takes for one durable write, alone.
type floor struct {
	appended, overwritten latencies // 4 KiB and fdatasync
}

// latencies are sorted.
type latencies []time.Duration

// quantile returns what the part q, 0 to 1, does not exceed; 0 if there are none.
func (l latencies) quantile(q float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[min(int(q*float64(len(l))), len(l)-1)]
}

// timed calls f until limit has passed, at least once, and returns how long each call took.
func timed(ctx context.Context, limit time.Duration, f func(i int) error) (latencies, error) {
	var all latencies
	for begun := time.Now(); len(all) == 0 || time.Since(begun) < limit; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		at := time.Now()
		if err := f(len(all)); err != nil {
			return nil, err
		}
		all = append(all, time.Since(at))
	}
	slices.Sort(all)
	return all, nil
}

// measureFloor syncs a file in dir.
func measureFloor(ctx context.Context, dir string, limit time.Duration) (f floor, err error) {
	const page = 4096
	path := filepath.Join(dir, "floor")
	file, err := os.Create(path)
	if err != nil {
		return f, fmt.Errorf("floor: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(path)) }()
	data := make([]byte, page)
	write := func(at int64) error {
		if _, err := file.WriteAt(data, at); err != nil {
			return err
		}
		return unix.Fdatasync(int(file.Fd()))
	}
	if f.appended, err = timed(ctx, limit, func(i int) error { return write(int64(i) * page) }); err != nil {
		return f, fmt.Errorf("floor: %w", err)
	}
	if f.overwritten, err = timed(ctx, limit, func(i int) error { return write(0) }); err != nil {
		return f, fmt.Errorf("floor: %w", err)
	}
	return f, nil
}
