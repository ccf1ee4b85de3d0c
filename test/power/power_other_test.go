//go:build !linux

package power

import (
	"testing"

	"github.com/protocol7/snakes/test/cluster"
)

func TestAPowerCutLosesNothingAcknowledged(t *testing.T) {
	cluster.Missing(t, "this test cuts the power of a file system, which only Linux has a way for")
}
