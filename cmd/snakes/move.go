package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// patient ends a context once nothing has moved for too long.
type patient struct {
	ctx     context.Context
	end     func()
	silence time.Duration
	timer   *time.Timer // nil: it lasts for ever
}

// newPatient returns one of ctx. 0 means for ever. Whoever is done calls end.
func newPatient(ctx context.Context, silence time.Duration) *patient {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &patient{ctx: ctx, silence: silence, end: func() { cancel(nil) }}
	if silence > 0 {
		p.timer = time.AfterFunc(silence, func() { cancel(silenceError(silence)) })
		p.end = func() { p.timer.Stop(); cancel(nil) }
	}
	return p
}

// moved begins a new wait, pause ends the one there is.
func (p *patient) moved() {
	if p != nil && p.timer != nil {
		p.timer.Reset(p.silence)
	}
}

func (p *patient) pause() {
	if p != nil && p.timer != nil {
		p.timer.Stop()
	}
}

// because returns err, or that nothing has moved for too long, if that is why.
func (p *patient) because(err error) error {
	if cause, ok := errors.AsType[silenceError](context.Cause(p.ctx)); ok {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// silenceError says for how long nothing has moved.
type silenceError time.Duration

// Error names the flag by which people can wait longer.
func (e silenceError) Error() string {
	return fmt.Sprintf("nothing has moved for %v; --timeout waits longer", time.Duration(e))
}

// moving is a stream on its way, of which people are shown how far it is.
type moving struct {
	io.Reader
	patient  *patient // may be nil
	progress *progress
	size     int64 // 0: not known
	// sends: it is read as it is sent, so that time in which it is read says nothing of the other side.
	sends bool

	began time.Time
	bytes int64
}

// Read implements io.Reader.
func (m *moving) Read(p []byte) (int, error) {
	if m.began.IsZero() {
		m.began = time.Now()
	}
	if m.sends {
		m.patient.pause()
	}
	n, err := m.Reader.Read(p)
	if n > 0 || m.sends {
		m.patient.moved()
	}
	m.bytes += int64(n)
	perSecond := float64(m.bytes) / max(time.Since(m.began).Seconds(), 0.001)
	if m.size > 0 {
		m.progress.show(float64(m.bytes)/float64(m.size), perSecond)
	} else {
		m.progress.count(m.bytes, perSecond)
	}
	return n, err
}
