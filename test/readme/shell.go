package readme

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// ErrNoShell is returned by Run when this machine has no bash.
var ErrNoShell = errors.New("bash is not installed")

// doneMark begins the line that follows each command's output; no command prints this byte.
const doneMark = "\x1e"

// shell is a bash that reads commands from us one at a time, so that directories, variables and jobs last from one to
// the next. When its input is closed, also by the end of this process, it kills its jobs and ends.
type shell struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output *os.File // what commands print, each followed by a done mark
	hung   bool     // a command did not end in time: no way to speak to the shell any more
}

func startShell(dir, home, path string) (*shell, error) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		return nil, ErrNoShell
	}
	output, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the shell: %w", err)
	}
	defer theirs.Close()
	cmd := exec.Command(bash, "--noprofile", "--norc")
	cmd.Dir = dir
	cmd.Env = environment(home, path)
	cmd.Stdout = theirs
	ownGroup(cmd)
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the shell: %w", err), output.Close())
	}
	s := &shell{cmd: cmd, input: input, output: output}
	// Bash reports a killed job, in the midst of what commands print, unless the signal is trapped. A trap on KILL is
	// never run, but counts as one.
	if _, err := io.WriteString(input, "trap : KILL; trap 'kill -9 $(jobs -p); wait' EXIT\n"); err != nil {
		return nil, errors.Join(fmt.Errorf("start the shell: %w", err), s.end())
	}
	return s, nil
}

// environment is this process's, without what would change the meaning of the text's commands.
func environment(home, path string) []string {
	env := []string{"HOME=" + home, "CURL_HOME=" + home, "LC_ALL=C"}
	for _, e := range os.Environ() {
		name, value, _ := strings.Cut(e, "=")
		switch {
		case name == "HOME", name == "CURL_HOME", name == "LC_ALL", name == "BASH_ENV":
		case strings.HasPrefix(name, "SNAKES_"), strings.HasSuffix(strings.ToLower(name), "_proxy"):
		case name == "PATH" && path != "":
			env = append(env, "PATH="+path+string(os.PathListSeparator)+value)
		default:
			env = append(env, e)
		}
	}
	return env
}

// run runs a command in the foreground and returns what it printed and its exit code.
func (s *shell) run(command string, timeout time.Duration) (string, int, error) {
	// Standard input is closed to commands: they would read the following ones from it.
	return s.do("eval "+quote(command)+" </dev/null 2>&1", timeout)
}

// background starts a command, which must be a single one for its output to be caught, with its output going to a
// file. The shell's $! and %1, %2 are then the process of the command itself.
func (s *shell) background(command, log string, timeout time.Duration) error {
	_, _, err := s.do(command+" </dev/null >"+quote(log)+" 2>&1 &", timeout)
	return err
}

func (s *shell) do(line string, timeout time.Duration) (string, int, error) {
	if s.hung {
		return "", 0, errors.New("the shell hangs in an earlier command")
	}
	script := line + "\nprintf '" + `\036` + "%d\\n' $?\n"
	if _, err := io.WriteString(s.input, script); err != nil {
		return "", 0, fmt.Errorf("speak to the shell: %w", err)
	}
	if err := s.output.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return "", 0, fmt.Errorf("limit the command's time: %w", err)
	}
	var printed strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := s.output.Read(buffer)
		printed.Write(buffer[:n])
		output, rest, found := strings.Cut(printed.String(), doneMark)
		if code, ended := strings.CutSuffix(rest, "\n"); found && ended {
			number, err := strconv.Atoi(code)
			return output, number, err
		}
		if err != nil {
			s.hung = true
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = fmt.Errorf("it has not ended after %v", timeout)
			} else if errors.Is(err, io.EOF) {
				err = errors.New("it ended the shell")
			}
			return output, 0, fmt.Errorf("%w, having printed %q", err, output)
		}
	}
}

// end ends the shell and all that it started, and waits for the shell and its jobs.
func (s *shell) end() error {
	var errs []error
	if !s.hung {
		_, _, err := s.do("kill -9 $(jobs -p); wait", 10*time.Second)
		errs = append(errs, err)
	}
	// For what hangs in the foreground, and for children of jobs. The shell itself has not been waited for, so that
	// the group's number is still its own.
	errs = append(errs, killGroup(s.cmd.Process))
	// How the shell ends says nothing: we killed it. Wait closes its input.
	_ = s.cmd.Wait()
	return errors.Join(append(errs, s.output.Close())...)
}

func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
