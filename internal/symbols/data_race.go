//go:build linux && race

package symbols

// maxData leaves room for the shadow memory of the race detector, with which tests are built.
const maxData = 1 << 40
