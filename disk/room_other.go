//go:build !linux && !darwin && !windows

package disk

import "errors"

func roomAt(string) (Room, error) { return Room{}, errors.ErrUnsupported }
