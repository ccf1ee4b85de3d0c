package readme

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Mode says how a block is run.
type Mode int

const (
	Foreground Mode = iota // one command after the other
	Background             // each command in the background
	Eventually             // each command until it prints what is shown
	Fresh                  // in the foreground, after ending what runs in the background, in an empty directory
	Skip                   // not at all
)

var modes = map[string]Mode{"background": Background, "eventually": Eventually, "fresh": Fresh, "skip": Skip}

// Block is one console block.
type Block struct {
	Line     int // of its fence, from 1
	Mode     Mode
	On       string // the sort of machine that it is for, empty: the reader's own
	Commands []Command
}

// Command is one command of a block.
type Command struct {
	Line       int    // from 1
	Text       string // as pasted into a shell, without " &" and exit comment
	Background bool
	Exit       int      // the exit code wanted
	Output     []string // the lines wanted, without empty ones at the end
}

var (
	directive   = regexp.MustCompile(`^<!--\s*readme:\s*(.*?)\s*-->$`)
	exitComment = regexp.MustCompile(`\s+# exit (\d+)$`)
)

// Parse returns the console blocks of a markdown text in their order. The package comment gives the form and what is
// an error.
func Parse(markdown string) ([]Block, error) {
	var blocks []Block
	lines := strings.Split(markdown, "\n")
	mode, on, modeLine := Foreground, "", 0
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if found := directive.FindStringSubmatch(line); found != nil {
			m, ok := modes[found[1]]
			if other, is := strings.CutPrefix(found[1], "on "); is {
				on, ok = other, true
			}
			if !ok || modeLine != 0 {
				return nil, fmt.Errorf("line %d: %s: unknown, or a second one before a block", i+1, line)
			}
			mode, modeLine = m, i+1
			continue
		}
		fence, info, ok := openFence(line)
		if !ok {
			continue
		}
		end := i + 1
		for end < len(lines) && !closesFence(lines[end], fence) {
			end++
		}
		if end == len(lines) {
			return nil, fmt.Errorf("line %d: the block has no end", i+1)
		}
		if info == "console" {
			b := Block{Line: i + 1, Mode: mode, On: on}
			var err error
			if b.Commands, err = parseCommands(lines[i+1:end], i+2); err != nil {
				return nil, err
			}
			for c := range b.Commands {
				b.Commands[c].Background = b.Commands[c].Background || mode == Background
			}
			blocks = append(blocks, b)
			mode, on, modeLine = Foreground, "", 0
		} else if modeLine != 0 {
			return nil, fmt.Errorf("line %d: the comment stands before a block that is not console", modeLine)
		}
		i = end
	}
	if modeLine != 0 {
		return nil, fmt.Errorf("line %d: no block follows the comment", modeLine)
	}
	return blocks, nil
}

// openFence splits a line that opens a fenced block into the fence and the first word after it.
func openFence(line string) (fence, info string, ok bool) {
	rest := strings.TrimLeft(line, "`")
	fence = line[:len(line)-len(rest)]
	info, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
	return fence, info, len(fence) >= 3
}

func closesFence(line, fence string) bool {
	line = strings.TrimSpace(line)
	return strings.HasPrefix(line, fence) && strings.Trim(line, "`") == ""
}

// parseCommands reads the lines of a block; first is the number of the first.
func parseCommands(lines []string, first int) ([]Command, error) {
	var commands []Command
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], " \t\r")
		text, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			if len(commands) == 0 {
				return nil, fmt.Errorf(`line %d: %q stands before the first command ("$ ")`, first+i, line)
			}
			c := &commands[len(commands)-1]
			c.Output = append(c.Output, line)
			continue
		}
		c := Command{Line: first + i}
		for strings.HasSuffix(text, `\`) && i+1 < len(lines) {
			i++
			next := strings.TrimRight(lines[i], " \t\r")
			text += "\n" + strings.TrimPrefix(next, "> ")
		}
		if found := exitComment.FindStringSubmatch(text); found != nil {
			code, err := strconv.Atoi(found[1])
			if err != nil || code > 255 {
				return nil, fmt.Errorf("line %d: exit code %s, want 0 to 255", c.Line, found[1])
			}
			c.Exit = code
			text = strings.TrimSuffix(text, found[0])
		}
		c.Text, c.Background = strings.CutSuffix(text, " &")
		commands = append(commands, c)
	}
	if len(commands) == 0 {
		return nil, fmt.Errorf("line %d: a console block without a command", first-1)
	}
	for i := range commands {
		commands[i].Output = trimEmptyEnd(commands[i].Output)
	}
	return commands, nil
}

func trimEmptyEnd(lines []string) []string {
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// matches says whether what a command printed is what is shown.
func matches(printed string, shown []string) bool {
	return matchLines(outputLines(printed), shown)
}

// contains says whether the shown lines, one after the other, are somewhere in what was printed.
func contains(printed string, shown []string) bool {
	return matchLines(outputLines(printed), slices.Concat([]string{"..."}, shown, []string{"..."}))
}

func matchLines(printed, shown []string) bool {
	if len(shown) == 0 {
		return len(printed) == 0
	}
	if shown[0] == "..." {
		for skip := range len(printed) + 1 {
			if matchLines(printed[skip:], shown[1:]) {
				return true
			}
		}
		return false
	}
	return len(printed) > 0 && matchLine(printed[0], shown[0]) && matchLines(printed[1:], shown[1:])
}

func matchLine(printed, shown string) bool {
	parts := strings.Split(shown, "...")
	for p := range parts {
		parts[p] = regexp.QuoteMeta(parts[p])
	}
	return regexp.MustCompile(`^(?s:` + strings.Join(parts, `.*`) + `)$`).MatchString(printed)
}

// outputLines are the lines of printed text, without carriage returns, blanks at ends of lines, and empty lines at the
// end.
func outputLines(printed string) []string {
	lines := strings.Split(strings.ReplaceAll(printed, "\r", ""), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t")
	}
	return trimEmptyEnd(lines)
}
