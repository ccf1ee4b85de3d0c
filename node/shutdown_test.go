package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestShutdownKeepsToTheDrainTimeout(t *testing.T) {
	for _, row := range []struct {
		timeout       time.Duration
		requests, end time.Duration
	}{
		{10 * time.Second, 8 * time.Second, 10 * time.Second},
		{time.Second, 500 * time.Millisecond, time.Second},
		{600 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond},
		{1, 1, 1 + minReserve},
	} {
		now := time.Now()
		steps := new(Node).shutdown(now, row.timeout, nil)
		if got := steps[0].until.Sub(now); got != row.requests {
			t.Errorf("%v: requests get %v, want %v", row.timeout, got, row.requests)
		}
		if got := steps[len(steps)-1].until.Sub(now); got != row.end {
			t.Errorf("%v: ends after %v, want %v", row.timeout, got, row.end)
		}
		for i := range steps[1:] {
			if steps[i+1].until.Before(steps[i].until) {
				t.Errorf("%v: %s ends before %s", row.timeout, steps[i+1].awaited, steps[i].awaited)
			}
		}
	}
}

func TestShutdownLeavesBehindWhatHangs(t *testing.T) {
	for hanging := range len(new(Node).shutdown(time.Now(), time.Second, nil)) {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			n := &Node{cfg: Config{DrainTimeout: 10 * time.Second}, logger: hclog.New(&hclog.LoggerOptions{Output: &log})}
			start := time.Now()
			steps := n.shutdown(start, n.cfg.DrainTimeout, nil)
			release := make(chan struct{})
			defer close(release)
			var taken atomic.Int32
			broken := errors.New("broken")
			for i := range steps {
				steps[i].do = func(context.Context) error {
					taken.Add(1)
					if i == hanging {
						<-release
					}
					return broken
				}
			}
			err := n.take(steps)
			if int(taken.Load()) != len(steps) || !errors.Is(err, broken) {
				t.Errorf("%s hangs: got %d steps and error %v, want all %d and their errors", steps[hanging].awaited, taken.Load(), err, len(steps))
			}
			if got, want := time.Since(start), steps[hanging].until.Sub(start); got != want {
				t.Errorf("%s hangs: ended after %v, want %v", steps[hanging].awaited, got, want)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, steps[hanging].awaited) {
				t.Errorf("%s hangs: got log %q, want one line that names it", steps[hanging].awaited, got)
			}
		})
	}
}

func TestStepsHaveAMomentEvenIfTheTimeIsUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := &Node{logger: hclog.New(&hclog.LoggerOptions{Output: &log})}
		quick := func(context.Context) error { time.Sleep(minStep / 2); return nil }
		if err := n.take([]step{{"a", time.Now(), quick}, {"b", time.Now(), quick}}); err != nil || log.Len() > 0 {
			t.Errorf("got error %v, log %q; want neither", err, log.String())
		}
	})
}

func TestARequestThatNeverEndsDoesNotKeepTheNode(t *testing.T) {
	for _, timeout := range []time.Duration{1, 800 * time.Millisecond} {
		n := run(t, Config{DrainTimeout: timeout})
		conn, err := net.Dial("tcp", n.Address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() }) // it is cut off
		if _, err := io.WriteString(conn, "PUT /foo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil { // from now on the node waits for the body
			t.Fatal(err)
		}
		start := time.Now()
		n.stop(t)()
		if took, most := time.Since(start), max(timeout, minReserve)+500*time.Millisecond; took > most {
			t.Errorf("drain timeout %v: ended after %v, want at most %v", timeout, took, most)
		}
	}
}

func TestWhoWasHeardBeforeThePortClosesGetsItsAnswer(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	f := &farewell{server: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		w.WriteHeader(http.StatusServiceUnavailable)
	})}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.start(l)
	answer := make(chan error, 1)
	go func() {
		r, err := http.Get("http://" + l.Addr().String())
		if err == nil {
			err = r.Body.Close()
		}
		answer <- err
	}()
	<-entered
	time.AfterFunc(farewellTime/10, func() { close(leave) })
	f.end()
	if err := <-answer; err != nil {
		t.Errorf("got %v, want an answer", err)
	}
}

func TestMembersLearnOfAStopThatWaitsForNothing(t *testing.T) {
	a := run(t, Config{Name: "a"})
	b := run(t, Config{Name: "b", Join: []string{a.Address()}, DrainTimeout: 1})
	awaitStates(t, "2: alive alive", a, b)
	b.stop(t)()
	awaitStates(t, "2: alive stopped", a)
}
