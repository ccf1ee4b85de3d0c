//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what figures depend on. It has no names of this machine or of its directories.
type machine struct {
	Processor  string
	Cores      int
	Memory     string
	Kernel     string
	FileSystem string // of the data
	Go         string
	Etcd       string // empty: there is none
}

func thisMachine(dir, etcd string) (machine, error) {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, fmt.Errorf("uname: %w", err)
	}
	m.Kernel = "Linux " + unix.ByteSliceToString(name.Release[:]) + " " + runtime.GOARCH
	cpu, cpuErr := os.ReadFile("/proc/cpuinfo")
	memory, memoryErr := os.ReadFile("/proc/meminfo")
	mounts, mountsErr := os.ReadFile("/proc/self/mounts")
	if err := errors.Join(cpuErr, memoryErr, mountsErr); err != nil {
		return m, err
	}
	m.Processor = field(cpu, "model name", "unknown processor")
	var kib float64
	if _, err := fmt.Sscan(field(memory, "MemTotal", ""), &kib); err != nil {
		return m, fmt.Errorf("/proc/meminfo: %w", err)
	}
	m.Memory = fmt.Sprintf("%.0f GiB", kib/(1<<20))
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return m, err
	}
	m.FileSystem = fileSystem(mounts, absolute)
	if etcd != "" {
		version, err := exec.Command(etcd, "--version").Output()
		if err != nil {
			return m, fmt.Errorf("etcd --version: %w", err)
		}
		m.Etcd = field(version, "etcd Version", "unknown version")
	}
	return m, nil
}

// field returns what follows "name:" at the beginning of a line of text, or otherwise.
func field(text []byte, name, otherwise string) string {
	for line := range bytes.Lines(text) {
		before, after, found := strings.Cut(string(line), ":")
		if found && strings.TrimSpace(before) == name {
			return strings.TrimSpace(after)
		}
	}
	return otherwise
}

// fileSystem returns the type of the file system that path, an absolute one, is on.
func fileSystem(mounts []byte, path string) string {
	found, longest := "unknown file system", -1
	for line := range bytes.Lines(mounts) {
		fields := strings.Fields(string(line))
		if len(fields) < 3 {
			continue
		}
		point := strings.TrimRight(fields[1], "/")
		if (path == point || strings.HasPrefix(path, point+"/")) && len(point) >= longest { // the last of equals is on top
			found, longest = fields[2], len(point)
		}
	}
	return found
}

// volatile reports whether a sync means nothing on this type of file system.
func volatile(fileSystem string) bool { return fileSystem == "tmpfs" || fileSystem == "ramfs" }

// dataDirectory makes a directory for the data: under parent, or, if that is empty, under the temporary directory or the
// current one, the first that a sync means something on.
func dataDirectory(parent string) (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	if parent == "" {
		parent = os.TempDir()
		if absolute, err := filepath.Abs(parent); err != nil || volatile(fileSystem(mounts, absolute)) {
			parent = "."
		}
	}
	dir, err := os.MkdirTemp(parent, "snakes-bench-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the data: %w", err)
	}
	return filepath.Abs(dir)
}

// room returns how many files of one page each dir's file system has room for.
func room(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("room in the data directory: %w", err)
	}
	files := s.Bavail * uint64(s.Bsize) / 4096
	if s.Files > 0 { // some file systems do not count
		files = min(files, s.Ffree)
	}
	return files, nil
}
