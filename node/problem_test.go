package node

import (
	"errors"
	"fmt"
	"testing"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
)

func TestErrorsKeepTheirIdentityFromOneNodeToAnother(t *testing.T) {
	for _, want := range []error{
		replication.ErrBadKey, replication.ErrNotFound, replication.ErrDamaged, replication.ErrReadOnly, replication.ErrDiskFull,
		replication.ErrNotReady, replication.ErrClosed,
		membership.ErrMinority, membership.ErrRemoved, membership.ErrOtherCluster, membership.ErrTwin,
		errProtocol, errMisdirected, errBadMessage, errTooLarge,
	} {
		sent := fmt.Errorf("doing something: %w", want)
		d := decoder{rest: appendError(nil, sent)}
		got := d.remoteError(d.text(maxErrorText))
		if err := d.end(); err != nil || !errors.Is(got, want) || got.Error() != sent.Error() {
			t.Errorf("%v: got %v, %v at the other end", sent, got, err)
		}
		for _, other := range kinds {
			if other.cause != want && errors.Is(got, other.cause) {
				t.Errorf("%v: is also %v at the other end", sent, other.cause)
			}
		}
	}
	for _, sent := range []error{errors.New("open /data: no such file"), &replication.QuorumError{}, &membership.AmbiguousError{}} {
		d := decoder{rest: appendError(nil, sent)}
		if got := d.remoteError(d.text(maxErrorText)); kindOf(got).name != internal.name {
			t.Errorf("%v: got %v at the other end, want an internal error", sent, got)
		}
	}
	d := decoder{rest: appendText(appendText(nil, "of a later release"), "text")}
	if got := d.remoteError(d.text(maxErrorText)); !errors.Is(got, errInternal) || got.Error() != "text" {
		t.Errorf("unknown kind: got %v, want an internal error with its text", got)
	}
}

func TestKindsHaveNamesAndTexts(t *testing.T) {
	names := make(map[string]bool)
	for _, k := range append([]kind{internal}, kinds...) {
		if k.name == "" || names[k.name] {
			t.Errorf("kind %q: empty or there twice", k.name)
		}
		names[k.name] = true
		if k.status < 400 || k.code == "" || k.title == "" || k.cause == nil {
			t.Errorf("kind %q lacks status, code, title or cause", k.name)
		}
	}
}

func TestQuorumDetailsSayWhatHappenedAndWhatCanPass(t *testing.T) {
	const no, unknown = replication.WrittenNo, replication.WrittenUnknown
	for _, row := range []struct {
		need, alive, known, acks int
		written                  replication.Written
		want                     string
	}{
		{2, 1, 3, 0, no, "This needs 2 of 3 members; 1 is alive. Nothing was written. Try again, or ask for less with ?w=1."},
		{3, 2, 3, 0, no, "This needs 3 of 3 members; 2 are alive. Nothing was written. Try again, or ask for less with ?w=quorum."},
		{5, 4, 5, 0, no, "This needs 5 of 5 members; 4 are alive. Nothing was written. Try again, or ask for less with ?w=4."},
		{5, 3, 5, 0, "", "This needs 5 of 5 members; 3 are alive. Try again, or ask for less with ?r=quorum."},
		{1, 0, 1, 0, "", "This needs 1 of 1 member; 0 are alive. Try again."},
		{2, 3, 3, 0, "", "This needs 2 of 3 members; 3 are alive and 0 took part in time. Try again."},
		{2, 3, 3, 1, "", "This needs 2 of 3 members; 3 are alive and 1 took part in time. Try again, or ask for less with ?r=1."},
		{3, 3, 3, 2, unknown, "This needs 3 of 3 members; 3 are alive and 2 took part in time. Some may have the write, so it may be seen later. " +
			"Try again, or ask for less with ?w=quorum."},
		{3, 2, 3, 1, unknown, "This needs 3 of 3 members; 2 are alive and 1 took part in time. Some may have the write, so it may be seen later. " +
			"Try again, or ask for less with ?w=quorum."},
	} {
		e := &replication.QuorumError{Need: row.need, Alive: row.alive, Known: row.known, Acks: row.acks, Written: row.written}
		if got := quorumDetail(e); got != row.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", row, got, row.want)
		}
	}
}
