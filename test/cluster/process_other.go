//go:build !unix

package cluster

import (
	"errors"
	"os"
)

var errNoSignals = errors.New("this system has no signals")

func terminate(*os.Process) error { return errNoSignals }
func freeze(*os.Process) error    { return errNoSignals }
func thaw(*os.Process) error      { return errNoSignals }
func hangUp(*os.Process) error    { return errNoSignals }
