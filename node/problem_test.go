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
		membership.ErrRemoved, membership.ErrOtherCluster, membership.ErrTwin,
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
