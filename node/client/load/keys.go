package load

import (
	"math/rand/v2"
	"sync/atomic"
)

const (
	// keyDigits is the width of the number in a key.
	keyDigits = 9
	// MaxKeys is how many keys a prefix can have: the numbers of keys are below it.
	MaxKeys = 1_000_000_000
)

// zipfExponent is just above 1, where the most popular of 100,000 keys gets about a twelfth of all requests. Common
// benchmarks use 0.99, which math/rand's method cannot do.
const zipfExponent = 1.01

// Keys chooses keys. Each connection calls it once with a source of its own, and then the function that it returns for
// the number of each next key, which is below MaxKeys.
type Keys func(*rand.Rand) func() uint64

// Sequence is first, first + 1 and so on, each once, whichever connection asks. Loads that share one go on where the
// last one has ended.
func Sequence(first uint64) Keys {
	var next atomic.Uint64
	next.Store(first)
	number := func() uint64 { return next.Add(1) - 1 }
	return func(*rand.Rand) func() uint64 { return number }
}

// Uniform is any of the first n keys, all equally often. n is at least 1.
func Uniform(n uint64) Keys {
	return func(r *rand.Rand) func() uint64 {
		return func() uint64 { return r.Uint64N(n) }
	}
}

// Zipf is any of the first n keys, a few of them very often and most seldom. n is at least 1.
func Zipf(n uint64) Keys {
	return func(r *rand.Rand) func() uint64 { return rand.NewZipf(r, zipfExponent, 1, n-1).Uint64 }
}

// KeyName returns the key with this number, as a load asks for it.
func KeyName(prefix string, number uint64) string {
	digits := make([]byte, keyDigits)
	putDigits(digits, number)
	return prefix + string(digits)
}

// putDigits writes the last digits of number, as many as there is room for.
func putDigits(room []byte, number uint64) {
	for i := len(room) - 1; i >= 0; i-- {
		room[i] = '0' + byte(number%10)
		number /= 10
	}
}

// Value returns n letters and digits, the same ones at every call. They compress badly and mean nothing in a form or a
// URL.
func Value(n int) []byte {
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	r := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, n)
	for i := range value {
		value[i] = alphabet[r.IntN(len(alphabet))]
	}
	return value
}
