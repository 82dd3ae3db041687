package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Counters returns the kernel's counters of the network namespace behind path, as
// [Enter] finds it: by the names of nstat(8), which has those of TcpExt without a
// prefix.
func Counters(path string, inode uint32) (counters map[string]uint64, err error) {
	err = Enter(path, inode, func() (err error) {
		counters, err = ThreadCounters()
		return err
	})
	return counters, err
}

// ThreadCounters returns the counters of the calling thread's network namespace.
func ThreadCounters() (map[string]uint64, error) { return read("/proc/thread-self/net") }

// read reads the counters from a directory /proc/PID/net.
func read(dir string) (map[string]uint64, error) {
	counters := map[string]uint64{}
	for _, name := range []string{"snmp", "netstat"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		parse(string(text), counters)
	}
	if _, ok := counters["TcpOutRsts"]; !ok {
		return nil, fmt.Errorf("no TcpOutRsts in %s", filepath.Join(dir, "snmp"))
	}
	return counters, nil
}

// parse reads pairs of lines, "Tcp: names..." and "Tcp: values...". It skips a
// line without its pair, and negative values (MaxConn).
func parse(text string, into map[string]uint64) {
	var names []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if names == nil || names[0] != words[0] {
			names = words
			continue
		}
		protocol := strings.TrimSuffix(words[0], ":")
		if protocol == "TcpExt" {
			protocol = ""
		}
		for i := 1; i < min(len(names), len(words)); i++ {
			if n, err := strconv.ParseUint(words[i], 10, 64); err == nil {
				into[protocol+names[i]] = n
			}
		}
		names = nil
	}
}
