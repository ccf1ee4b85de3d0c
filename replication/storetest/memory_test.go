package storetest_test

import (
	"errors"
	"testing"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

func TestMemoryConforms(t *testing.T) {
	storetest.Suite{
		Open: func(*testing.T) replication.Store { return new(storetest.Memory) },
		Damage: func(_ *testing.T, s replication.Store, key string) {
			s.(*storetest.Memory).Damage(key)
		},
	}.Run(t)
}

func record(counter uint64) []replication.Record {
	v := version.Version{Timestamp: version.Timestamp{Wall: int64(counter)}, Dot: version.Dot{Origin: 1, Counter: counter}}
	return []replication.Record{{Key: "k", Version: v}}
}

func TestMemoryFailsWritesWhenTold(t *testing.T) {
	var m storetest.Memory
	m.FailWrites(replication.ErrDiskFull)
	if got := m.Apply(record(1))[0].Err; !errors.Is(got, replication.ErrDiskFull) {
		t.Errorf("apply: got %v, want ErrDiskFull", got)
	}
	if got := m.Writable(); !errors.Is(got, replication.ErrDiskFull) {
		t.Errorf("writable: got %v, want ErrDiskFull", got)
	}
	if m.Len() != 0 || m.Seen().Has(record(1)[0].Version.Dot) {
		t.Error("a failed write left something")
	}
	m.FailWrites(nil)
	if got := m.Apply(record(1))[0].Err; got != nil || m.Writable() != nil || m.Len() != 1 {
		t.Errorf("after the fault: got %v, %v and %d keys", got, m.Writable(), m.Len())
	}
}

func TestMemoryParksApplyAlone(t *testing.T) {
	parked, release := make(chan struct{}), make(chan struct{})
	m := storetest.Memory{BeforeApply: func(records []replication.Record) {
		if records[0].Version.Counter == 1 {
			close(parked)
			<-release
		}
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Apply(record(1))
	}()
	<-parked
	m.Apply(record(2))
	if m.Seen().Has(record(1)[0].Version.Dot) || m.Len() != 1 {
		t.Errorf("seen while parked: %v", m.Seen())
	}
	close(release)
	<-done
	if !m.Seen().Has(record(1)[0].Version.Dot) {
		t.Error("the parked write is missing")
	}
}
