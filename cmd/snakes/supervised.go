package main

import (
	"fmt"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/protocol7/snakes/node"
)

// supervised has the node tell systemd, or whatever else set NOTIFY_SOCKET, how it is doing. Without that it changes nothing.
func (s *server) supervised(cfg *node.Config) error {
	if s.getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	patience, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return &usageError{fmt.Sprintf("the watchdog of the supervisor: %v", err), "WATCHDOG_USEC and WATCHDOG_PID are set by systemd, see sd_watchdog_enabled(3)."}
	}
	cfg.Watchdog = patience
	cfg.Notify = func(state string) error {
		_, err := daemon.SdNotify(false, state)
		return err
	}
	return nil
}
