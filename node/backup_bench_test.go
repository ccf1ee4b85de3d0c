package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/node/backup"
	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// What a backup costs, and to restore it, from and to a node on disk over HTTP on loopback, beside tar of the same files. Both
// kinds of files are synced at the end, and so is what was restored, each batch before it is acknowledged. A million keys
// take some minutes and 8 GB of disk:
//
//	go test ./node -run '^$' -bench 'BackupAndRestore' -benchtime 1x -keys 1000000 -timeout 1h
//
// Each sub-benchmark needs those before it.
func BenchmarkBackupAndRestore(b *testing.B) {
	keys, size := *benchKeys, *benchValue
	dir := b.TempDir()
	layRecords(b, dir, keys, size)
	benchCommand(b, "sync", "-f", dir)
	source := benchKeeper(b, dir)
	file, archive := filepath.Join(b.TempDir(), "keys.backup"), filepath.Join(b.TempDir(), "keys.tar")
	name := func(what string) string { return fmt.Sprintf("%s%dKeysOf%dBytes", what, keys, size) }

	b.Run(name("Backup"), func(b *testing.B) {
		for b.Loop() {
			benchBackup(b, source, file)
		}
		reportRate(b, keys, size)
	})
	b.Run(name("Tar"), func(b *testing.B) {
		for b.Loop() {
			benchCommand(b, "tar", "-C", dir, "-cf", archive, "keys")
			benchCommand(b, "sync", archive)
		}
		reportRate(b, keys, size)
	})
	b.Run(name("Verify"), func(b *testing.B) {
		for b.Loop() {
			in := opened(b, file)
			if _, trailer, err := backup.Verify(in); err != nil || trailer.Keys != uint64(keys) {
				b.Fatal(trailer, err)
			}
		}
		reportRate(b, keys, size)
	})
	b.Run(name("Restore"), func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			target := benchKeeper(b, b.TempDir())
			in := opened(b, file)
			b.StartTimer()
			got, err := target.Restore(b.Context(), in, client.RestoreOptions{})
			if err != nil || got.Written != uint64(keys) {
				b.Fatal(got, err)
			}
		}
		reportRate(b, keys, size)
	})
	b.Run(name("Untar"), func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			to := b.TempDir()
			b.StartTimer()
			benchCommand(b, "tar", "-C", to, "-xf", archive)
			benchCommand(b, "sync", "-f", to)
		}
		reportRate(b, keys, size)
	})
}

// benchKeeper returns a client of a node that keeps its records in dir, a cluster of its own.
func benchKeeper(b *testing.B, dir string) *client.Client {
	b.Helper()
	store, err := disk.Open(disk.Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() }) // what it holds is thrown away
	memory, err := replication.OpenMemory(store, nil)
	if err != nil {
		b.Fatal(err)
	}
	c, err := replication.New(replication.Config{
		Store: store, Members: alone{}, Peers: (*peers)(nil), Clock: version.NewClock(nil, version.Timestamp{}), Origin: 0xa, Memory: memory,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	config, _ := fakes()
	config.Coordinator = c
	address := benchServe(b, newAPI(config), new(atomic.Int64))
	api, err := client.New(client.Config{Servers: []string{address}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(api.Close)
	return api
}

// benchBackup saves a backup as the command does.
func benchBackup(b *testing.B, from *client.Client, path string) {
	b.Helper()
	body, _, err := from.Backup(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer body.Close()
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	_, _, err = backup.Verify(io.TeeReader(body, file))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		b.Fatal(err)
	}
}

func opened(b *testing.B, path string) *os.File {
	b.Helper()
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = file.Close() }) // it was read only
	return file
}
