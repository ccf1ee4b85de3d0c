// Package readme runs the commands that a markdown file shows and compares what they print with what it says.
//
// It leaves building the program, its place in PATH and the choice of file to its caller. Its terms:
//
// A console block is a fenced block whose info string is "console". All are run in their order in one shell, with one
// working directory, as a reader would paste them. In a block, a line that begins with "$ " is a command; it goes on
// while lines end with a backslash ("> " before the continuation is dropped). The lines up to the next command are what
// it prints, standard output and standard error together:
//
//   - "..." stands for any text within its line, and alone on a line for any number of lines;
//   - trailing blanks, a final newline and empty lines at the end do not count;
//   - no lines at all mean that the command prints nothing.
//
// A command ends well, or the comment "# exit 3" at its end says with which code. A command that ends in " &" goes to
// the background; the run waits until it answers (see Options.Answers) and until its log contains the lines shown.
//
// A comment on a line of its own before a block changes how the block is run:
//
//	<!-- readme: skip -->          not at all
//	<!-- readme: background -->    each command as if it ended in " &": a terminal of its own
//	<!-- readme: eventually -->    each command again and again until it prints what is shown, for Options.Patience
//	<!-- readme: on NAME -->       only if Options.On is NAME: it is for another sort of machine
//	<!-- readme: fresh -->         after ending all that runs in the background, in a new empty directory
//
// Other comments of that form, console blocks without a command and blocks without an end are errors, so that a slip of
// the pen does not leave a command unrun.
//
// Invariant: whatever was started ends with Run; also when the process that called it dies, since the shell ends its
// jobs when its input is closed. Needs bash.
//
//	blocks, err := readme.Parse(markdown)
//	...
//	err = readme.Run(ctx, blocks, readme.Options{Path: "/tmp/bin", Logf: t.Logf})
package readme
