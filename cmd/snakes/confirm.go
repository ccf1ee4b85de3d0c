package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
)

// confirm returns nil if whoever runs the command wants what it is about to do: they said --yes, or say it now.
func (r *remote) confirm(ctx context.Context, what string) error {
	if r.yes {
		return nil
	}
	if !isTerminal(r.stdin) {
		return &usageError{what, "Say --yes if that is meant."}
	}
	fmt.Fprintf(r.stderr, "%s\nGo on? [y/N] ", what)
	answer, err := readLine(ctx, r.stdin)
	if err != nil {
		return err
	}
	if !isYes(answer) {
		return errors.New("nothing was done")
	}
	return nil
}

func isYes(answer string) bool {
	return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer)))
}

// isTerminal reports whether a stream is one that a person looks at.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// readLine reads one line. A read that ctx interrupts goes on in the background until the process ends: nothing else ends
// it.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(in).ReadString('\n')
		done <- result{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", errInterrupted
	case r := <-done:
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return "", fmt.Errorf("read the answer: %w", r.err)
		}
		return r.line, nil
	}
}
