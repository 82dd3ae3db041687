package events

import (
	"encoding/binary"
	"slices"
)

// mostDigits is the number of digits of the highest uint64.
const mostDigits = 20

// AppendNumber appends n in base 10 like strconv.AppendUint, with a third as many instructions: a line has a dozen
// numbers, of which half have ten digits and more.
func AppendNumber(b []byte, n uint64) []byte {
	if cap(b)-len(b) < mostDigits+fourDigits {
		b = slices.Grow(b, mostDigits+fourDigits)
	}
	if n < 10_000 {
		return appendFirst(b, n)
	}
	if n >= 100_000_000 {
		high := n / 100_000_000
		n -= high * 100_000_000
		if high >= 10_000 {
			b = AppendNumber(b, high)
		} else {
			b = appendFirst(b, high)
		}
		return appendFour(appendFour(b, n/10_000), n%10_000)
	}
	return appendFour(appendFirst(b, n/10_000), n%10_000)
}

// appendFirst appends n < 10,000 to a slice with room.
func appendFirst(b []byte, n uint64) []byte {
	count := uint(4)
	if n < 1000 {
		if count = 3; n < 100 {
			if count = 2; n < 10 {
				count = 1
			}
		}
	}
	// The digits that n does not have are zeros at the begin of the text.
	binary.LittleEndian.PutUint32(b[len(b):len(b)+fourDigits], fours[n&fourMask]>>(8*(fourDigits-count)&31))
	return b[:len(b)+int(count)]
}

// appendFour appends n < 10,000 with leading zeros to a slice with room.
func appendFour(b []byte, n uint64) []byte {
	end := len(b) + fourDigits
	binary.LittleEndian.PutUint32(b[len(b):end], fours[n&fourMask])
	return b[:end]
}

const fourDigits = 4

// fourMask shows the compiler that no index is out of bounds: it leaves out the checks.
const fourMask = 1<<14 - 1

// fours are the four digits of 0 to 9999, the first one in the low byte.
var fours = func() (all [fourMask + 1]uint32) {
	for n := range uint32(10_000) {
		all[n] = 0x30303030 + (n/1000 | n/100%10<<8 | n/10%10<<16 | n%10<<24)
	}
	return all
}()
