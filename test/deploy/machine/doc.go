// Package machine runs a test on a copy of this machine: with its programs and settings, a network and processes of its own, and
// nothing that is changed there is seen outside. It needs Linux, root and a kernel with overlayfs.
//
//	if !machine.Enter(t, map[string]string{"/srv/dist": dist}) {
//		return // outside: it has run
//	}
//	// inside: dpkg -i, users, /etc, port 53, ...
package machine
