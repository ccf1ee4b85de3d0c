package readme

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options says how Run runs commands.
type Options struct {
	// Dir is where working directories are made. The caller removes it.
	Dir string

	// On is the sort of machine that this one is: blocks for another are left out. Empty means the reader's own.
	On string

	// Path is a directory that is put before PATH; empty means none.
	Path string

	// Rewrite returns what is run instead of a command; nil means the command itself.
	Rewrite func(command string) string

	// Answers waits until a command that was just started in the background, as the text shows it, does its work, or
	// returns why it does not. nil waits for nothing.
	Answers func(ctx context.Context, command string) error

	// Patience is how long commands of an "eventually" block and the output of background commands may take to become
	// what is shown. Zero means 15 s.
	Patience time.Duration

	// Timeout ends a command in the foreground. Zero means 60 s.
	Timeout time.Duration

	// Logf gets each command as it is run; nil means nobody does.
	Logf func(format string, args ...any)
}

// A Mismatch says that a command printed or ended otherwise than the text shows. Run returns it for the first one.
type Mismatch struct {
	Command  Command
	Printed  string
	ExitCode int
}

// Error implements error.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("line %d: $ %s\nexit code %d, want %d\nprinted:\n%s\nwant:\n%s",
		m.Command.Line, m.Command.Text, m.ExitCode, m.Command.Exit, m.Printed, strings.Join(m.Command.Output, "\n"))
}

// Run runs the blocks' commands in order and returns nil when each does what the text shows, else the error of the
// first that does not, with the logs of what ran in the background. It blocks until all that it started has ended.
func Run(ctx context.Context, blocks []Block, o Options) error {
	if o.Patience == 0 {
		o.Patience = 15 * time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Rewrite == nil {
		o.Rewrite = func(command string) string { return command }
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	r := runner{Options: o}
	err := r.runAll(ctx, blocks)
	if err != nil {
		err = errors.Join(err, r.backgroundLogs())
	}
	return errors.Join(err, r.end())
}

// runner is one Run.
type runner struct {
	Options
	shell *shell   // nil until the first command and after end
	logs  []string // of commands in the background, in all working directories
}

func (r *runner) runAll(ctx context.Context, blocks []Block) error {
	for _, b := range blocks {
		if b.Mode == Skip || b.On != r.On {
			continue
		}
		if b.Mode == Fresh {
			if err := r.end(); err != nil {
				return err
			}
		}
		for _, c := range b.Commands {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.begin(); err != nil {
				return err
			}
			r.Logf("line %d: $ %s", c.Line, c.Text)
			if err := r.run(ctx, b.Mode, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) run(ctx context.Context, mode Mode, c Command) error {
	if c.Background {
		return r.runInBackground(ctx, c)
	}
	for start := time.Now(); ; {
		printed, code, err := r.shell.run(r.Rewrite(c.Text), r.Timeout)
		if err != nil {
			return fmt.Errorf("line %d: $ %s: %w", c.Line, c.Text, err)
		}
		if code == c.Exit && matches(printed, c.Output) {
			return nil
		}
		if mode != Eventually || time.Since(start) > r.Patience {
			return &Mismatch{Command: c, Printed: printed, ExitCode: code}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (r *runner) runInBackground(ctx context.Context, c Command) error {
	log := filepath.Join(r.Dir, fmt.Sprintf("background-line-%d.log", c.Line))
	r.logs = append(r.logs, log)
	// The shell's child makes its log only once it runs, which may be after we look.
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		return err
	}
	if err := r.shell.background(r.Rewrite(c.Text), log, r.Timeout); err != nil {
		return fmt.Errorf("line %d: $ %s &: %w", c.Line, c.Text, err)
	}
	if r.Answers != nil {
		if err := r.Answers(ctx, c.Text); err != nil {
			return fmt.Errorf("line %d: $ %s &: %w", c.Line, c.Text, err)
		}
	}
	for start := time.Now(); ; {
		printed, err := os.ReadFile(log)
		if err != nil {
			return fmt.Errorf("line %d: read the output: %w", c.Line, err)
		}
		if contains(string(printed), c.Output) {
			return nil
		}
		if time.Since(start) > r.Patience {
			return &Mismatch{Command: c, Printed: string(printed)}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// begin makes sure that there is a shell, in a new empty directory.
func (r *runner) begin() error {
	if r.shell != nil {
		return nil
	}
	home, err := os.MkdirTemp(r.Dir, "home-")
	if err != nil {
		return err
	}
	// Without a terminal curl shows its progress, which a reader would not see.
	if err := os.WriteFile(filepath.Join(home, ".curlrc"), []byte("silent\nshow-error\n"), 0o600); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(r.Dir, "work-")
	if err != nil {
		return err
	}
	r.shell, err = startShell(dir, home, r.Path)
	return err
}

// end ends the shell and all that it runs in the background.
func (r *runner) end() error {
	if r.shell == nil {
		return nil
	}
	s := r.shell
	r.shell = nil
	return s.end()
}

// backgroundLogs returns an error whose text is the ends of all logs, nil when there are none.
func (r *runner) backgroundLogs() error {
	var errs []error
	for _, path := range r.logs {
		log, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, fmt.Errorf("%s:\n%s", filepath.Base(path), log[max(0, len(log)-4000):]))
	}
	return errors.Join(errs...)
}
