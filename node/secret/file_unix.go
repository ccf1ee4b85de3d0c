//go:build unix

package secret

import (
	"io/fs"
	"syscall"
)

// exposed says who else than its owner gets at a file. That the group may read a file of root is fine: so are secrets
// handed to processes that run as somebody else, by container platforms for instance, and such a process cannot give it
// to anybody.
func exposed(info fs.FileInfo) string {
	mode := info.Mode().Perm()
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid == 0 {
		mode &^= 0o040
	}
	switch {
	case mode&0o007 != 0:
		return "is open to everybody on this machine"
	case mode&0o070 != 0:
		return "is open to its group"
	}
	return ""
}
