package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// choice is a flag that takes one of a few words.
type choice struct {
	value string
	words []string
}

// String implements pflag.Value: the word that was given, or the default.
func (c *choice) String() string { return c.value }

// Type is what stands for the value in the help.
func (c *choice) Type() string { return strings.Join(c.words, "|") }

// Set implements pflag.Value. It takes one of the words and nothing else.
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

// String implements pflag.Value, with the largest unit of which the size is a multiple.
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

// Set implements pflag.Value. It takes whole numbers from 1 on, with any of units in any case.
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

// byteLimit is a flag that takes a number of bytes like byteSize, or 0 for no limit.
type byteLimit int64

// String implements pflag.Value.
func (l *byteLimit) String() string {
	if *l == 0 {
		return "0"
	}
	return (*byteSize)(l).String()
}

// Type is what stands for the value in the help.
func (l *byteLimit) Type() string { return "SIZE" }

// Set implements pflag.Value. It takes what byteSize does, and 0.
func (l *byteLimit) Set(text string) error {
	if text == "0" {
		*l = 0
		return nil
	}
	if (*byteSize)(l).Set(text) != nil {
		return errors.New("must be a number of bytes like 1048576, 512KiB, 1MiB or 10MB, or 0 for no limit")
	}
	return nil
}

// flagProblem returns what is wrong with a flag on the command line.
func flagProblem(err error) string {
	e, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err.Error()
	}
	return fmt.Sprintf("--%s %q %s", e.GetFlag().Name, e.GetValue(), valueProblem(e.GetFlag(), e.GetValue(), e.Unwrap()))
}

// valueProblem goes on after a flag and its value, and says why that value is none: err if it is of our own kinds of
// flags, else words for what Go's parsers say.
func valueProblem(flag *pflag.Flag, value string, err error) string {
	switch flag.Value.Type() {
	case "int":
		if errors.Is(err, strconv.ErrRange) {
			return "is too large a number"
		}
		return "is not a number"
	case "bool":
		return "is neither true nor false"
	case "duration":
		if _, err := strconv.ParseUint(value, 10, 64); err == nil {
			return fmt.Sprintf("is not a duration; write %ss", value)
		}
		return "is not a duration; write 500ms or 10s"
	}
	return err.Error()
}

// noEmptyFlags refuses flags that were given no text, which an unset variable of a shell does. They must not pass for
// the default.
func noEmptyFlags(cmd *cobra.Command) (err error) {
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if flag.Changed && flag.Value.Type() == "string" && flag.Value.String() == "" {
			err = misused(cmd, "--%s is empty; leave it out if the default is meant", flag.Name)
		}
	})
	return err
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
			errs = append(errs, fmt.Errorf("%s=%q in the environment %s", name, value, valueProblem(flag, value, err)))
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
