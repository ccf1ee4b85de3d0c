// Package volume makes file systems of their own for nodes under test, so that their disks can be filled, forbidden or
// cut from power.
//
// It knows nothing of nodes. What a power cut leaves is said at Volume.Cut. It needs Linux, root, loop devices and e2fsprogs;
// elsewhere the package is empty.
//
//	v, err := volume.New(t.TempDir(), "errors=remount-ro", 64<<20)
//	...
//	err = v.Cut() // the node's process is ended then
//	err = v.Restore()
package volume
