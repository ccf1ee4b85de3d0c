package membership

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

// newKeyring returns a keyring of keys, the first to send with; nil if there are none, which means that gossip is not
// encrypted.
func newKeyring(keys [][]byte) (*memberlist.Keyring, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	return memberlist.NewKeyring(keys, keys[0])
}

// SetKeys has gossip encrypted with the first of keys from now on, and taken if it is encrypted with any of them. Each is
// like those of Config.Keys, and there is at least one. Members stay what they are if each of them takes what another
// sends: a new key is first added behind the one in use, on all nodes, then put first on all, and only then is the old
// one left out. An error is that keys are of no use, or that this membership has begun without any; nothing changes
// then.
func (m *Membership) SetKeys(keys [][]byte) error {
	if m.keyring == nil || len(keys) == 0 {
		return errors.New("gossip that is encrypted stays so, and gossip that is not does, too")
	}
	for i, key := range keys {
		if len(key) != keyBytes {
			return fmt.Errorf("key %d has %d bytes, not %d", i+1, len(key), keyBytes)
		}
	}
	m.keying.Lock()
	defer m.keying.Unlock()
	return setKeys(m.keyring, keys)
}

// setKeys makes ring hold the keys, which are valid, and no others, and send with the first.
func setKeys(ring *memberlist.Keyring, keys [][]byte) error {
	var errs []error
	for _, key := range keys {
		errs = append(errs, ring.AddKey(slices.Clone(key)))
	}
	wanted := func(key []byte) bool {
		return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
	}
	if slices.ContainsFunc(ring.GetKeys(), func(key []byte) bool { return !wanted(key) }) {
		// RemoveKey shifts what stands behind the key within memory that memberlist reads without a lock while it
		// decrypts. So those that go are first brought to the end, behind which there is nothing. For a moment this
		// sends with keys that others may not know; such a packet is lost, as packets are.
		for _, key := range slices.Backward(keys) {
			errs = append(errs, ring.UseKey(key))
		}
		for _, key := range slices.Backward(ring.GetKeys()) {
			if !wanted(key) {
				errs = append(errs, ring.RemoveKey(key))
			}
		}
	}
	return errors.Join(append(errs, ring.UseKey(keys[0]))...)
}
