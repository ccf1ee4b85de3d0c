// Snakes is a replicated key-value store: this command runs a node, and asks running ones.
//
//	snakes [-p 9000] [-d data] [--join HOST:PORT]...    run a node until SIGTERM or Ctrl-C
//	snakes demo [--nodes 3] [-p 9000]                   run several in one process, with data that goes away
//	snakes get KEY [-r LEVEL]                           write exactly the value's bytes to standard output
//	snakes put KEY [VALUE|-] [-w LEVEL]                 store VALUE, or with "-" or nothing standard input
//	snakes delete KEY [-w LEVEL]                        delete the value, if there is one
//	snakes keys [PREFIX] [--limit N]                    list the keys, one a line
//	snakes watch [PREFIX] [--from MARKER]               tell what changes, a line for each change
//	snakes events [-f]                                  what happened to a node of late, and what happens
//	snakes members [--watch]                            who is in the cluster, as one node sees it
//	snakes status [--wait ready|alive=N]                a verdict, who is missing, and what to do next, from all nodes
//	snakes inspect KEY                                  what each member has for the key
//	snakes backup FILE|-                                save all keys, and verify what is saved
//	snakes verify FILE|-                                look whether a backup is whole
//	snakes restore FILE|- [--dry-run] [--as-new]        merge a backup into the cluster
//	snakes drain                                        have a node go out of the way, before a restart
//	snakes undrain                                      and call that off
//	snakes leave                                        have a node leave the cluster for good, and wait until it has
//	snakes forget NAME-OR-ID [--force]                  take a member that is gone out of the cluster for good
//	snakes repair --accept-loss                         have a node go on without what nobody alive has
//	snakes secret [FILE]                                draw a secret for --secret-file
//	snakes bench                                        how fast a cluster stores and returns values
//	snakes completion SHELL                             what lets a shell complete commands and flags
//	snakes man DIRECTORY                                the manual pages of all commands
//	snakes version | --version                          the release and what it was built from
//
// It leaves what a node is to package node and what a request is to package node/client. What it owns: flags, the
// environment, signals, what is printed where, and exit codes.
//
// # A node
//
// A flag beats the environment (SNAKES_ and the flag's name in upper case, with _ for -), which beats the default; an
// empty variable counts as none, but an empty flag is refused: an unset variable of a shell must not pass for the
// default. There is no configuration file. Kubernetes sets SNAKES_PORT to tcp://... for a service
// called snakes; that is ignored with one line in the log, and any other value that makes no sense ends the command.
//
// A secret is given as the path of a file, never as text: arguments and environments of processes are shown to others.
// SIGHUP has a node that has such a file read it again, its tokens and its certificate; one that has none ends, as when its terminal is
// closed.
//
// # Client commands
//
// --server URL[,URL] or SNAKES_SERVER names the nodes to ask: the next one only where the one before gives no answer,
// for writes too, see package node/client. A value from standard input is therefore read whole before it is sent, up to
// 256 MiB; nothing is sent if reading fails. A VALUE that begins with a dash goes after "--".
//
// Data goes to standard output and words to standard error. With -o json the data are the API's answer as it came, and
// so is the error answer on standard error. put and delete say nothing if all members took part, and otherwise who did
// not.
//
// drain, undrain, leave and repair are about one node, so that they take one server and never go to the next. leave goes on asking the
// node and the other members until nobody counts the node any more; --timeout bounds each answer, not that wait. leave,
// forget, repair and bench ask for a yes, and without a terminal they need --yes.
//
// A backup is written beside its FILE, verified meanwhile, and gets the name when it is whole and on the disk. restore reads a
// FILE twice: to verify all of it, and to send it. Both end when nothing has moved for 30 s, or --timeout. backup asks before
// it replaces a file, and restore --as-new before it overwrites keys.
//
// # Signals and exit codes
//
// The first SIGTERM or Ctrl-C ends a command in good order, the second one at once. A node and the demo then exit 0.
//
//	0    done
//	1    another error; status: DEGRADED or SPLIT
//	2    the command line, the environment, or what they ask for makes no sense
//	3    there is no value under the key
//	4    the quorum was not met, or the node is not ready; status: NO WRITES, or what --wait waits for has not come
//	5    no server answered in time
//	6    a condition of the request does not hold
//	130  interrupted
package main
