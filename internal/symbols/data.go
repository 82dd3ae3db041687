//go:build linux && !race

package symbols

// maxData bounds the reader's memory in bytes. The Go runtime reserves most of it, and uses some MB.
const maxData = 160 << 20
