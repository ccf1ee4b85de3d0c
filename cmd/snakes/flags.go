package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// choice is a flag that takes one of a few words.
type choice struct {
	value string
	words []string
}

func (c *choice) String() string { return c.value }

// Type is what stands for the value in the help.
func (c *choice) Type() string { return strings.Join(c.words, "|") }

func (c *choice) Set(text string) error {
	if !slices.Contains(c.words, text) {
		return fmt.Errorf("must be one of %s", strings.Join(c.words, ", "))
	}
	c.value = text
	return nil
}

func logLevel(value string) choice {
	return choice{value, []string{"trace", "debug", "info", "warn", "error"}}
}

// byteSize is a flag that takes a number of bytes, with a unit or without.
type byteSize int64

// units are in the order in which String prefers them.
var units = []struct {
	name  string
	bytes int64
}{
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"B", 1},
	{"", 1},
}

func (s *byteSize) String() string {
	for _, unit := range units {
		if n := int64(*s); n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	panic("unreachable: everything is a multiple of a byte")
}

// Type is what stands for the value in the help.
func (s *byteSize) Type() string { return "SIZE" }

func (s *byteSize) Set(text string) error {
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	name := strings.TrimSpace(text[len(digits):])
	for _, unit := range units {
		if !strings.EqualFold(name, unit.name) {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || n < 1 || int64(n) > math.MaxInt64/unit.bytes {
			break
		}
		*s = byteSize(int64(n) * unit.bytes)
		return nil
	}
	return errors.New("must be a number of bytes from 1 on, like 1048576, 512KiB, 1MiB or 10MB")
}

// variable returns the name of the environment variable that stands for a flag.
func variable(flag *pflag.Flag) string {
	return "SNAKES_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
}

// fromEnvironment sets those of flags that the command line did not set to what the environment says, and returns the
// variables that did. ignore tells which values are not meant for us.
func fromEnvironment(flags *pflag.FlagSet, getenv func(string) string, ignore func(name, value string) bool) ([]string, error) {
	var used []string
	var errs []error
	flags.VisitAll(func(flag *pflag.Flag) {
		name := variable(flag)
		value := getenv(name)
		if flag.Changed || value == "" || ignore(name, value) {
			return
		}
		used = append(used, name)
		if err := flag.Value.Set(value); err != nil {
			if e, ok := errors.AsType[*strconv.NumError](err); ok {
				err = e.Err // the rest of it is the name of a Go function
			}
			errs = append(errs, fmt.Errorf("the environment has %s=%q: %w", name, value, err))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return nil, &usageError{problem: err.Error(), hint: "Correct or unset it; a flag on the command line beats it."}
	}
	return used, nil
}

// split returns the parts of lists that are separated by commas.
func split(lists []string) []string {
	var parts []string
	for _, list := range lists {
		for part := range strings.SplitSeq(list, ",") {
			parts = append(parts, strings.TrimSpace(part))
		}
	}
	return parts
}
