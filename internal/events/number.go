package events

import (
	"math/bits"
	"slices"
)

// AppendNumber does what strconv.AppendUint does in base 10, where it belongs at once: a line has half a dozen numbers,
// and half as many instructions go into each.
func AppendNumber(b []byte, n uint64) []byte {
	if n < 10 {
		return append(b, '0'+byte(n))
	}
	at := len(b) + digits(n)
	b = slices.Grow(b, at-len(b))[:at]
	for n >= 100 {
		pair := 2 * (n % 100)
		n /= 100
		at -= 2
		b[at], b[at+1] = pairs[pair], pairs[pair+1]
	}
	if n < 10 {
		b[at-1] = '0' + byte(n)
	} else {
		b[at-2], b[at-1] = pairs[2*n], pairs[2*n+1]
	}
	return b
}

// digits is how many n has. A bit is worth 0.301 of them, and 1233/4096 is that.
func digits(n uint64) int {
	count := bits.Len64(n) * 1233 >> 12
	if n >= powers[count] {
		count++
	}
	return count
}

// powers are those of ten.
var powers = [...]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// pairs are the digits of 0 to 99.
const pairs = "00010203040506070809" + "10111213141516171819" + "20212223242526272829" + "30313233343536373839" +
	"40414243444546474849" + "50515253545556575859" + "60616263646566676869" + "70717273747576777879" +
	"80818283848586878889" + "90919293949596979899"
