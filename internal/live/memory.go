package live

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseProgram gives back the memory of the pages of the program file that were needed so far. Most are of the start.
// The trace needs about half of them again: the kernel then maps them, usually from the page cache.
func releaseProgram() error {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	return release(path)
}

// release gives back the pages of this process's mappings of a file that are as in the file.
func release(path string) error {
	mappings, err := mappingsOf(path)
	if err != nil {
		return err
	}
	for _, m := range mappings {
		if !m.unchanged() {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.begin, m.end-m.begin, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return nil
}

// mapping is a mapping of a file in this process.
type mapping struct {
	begin, end                   uintptr
	access                       string
	resident, anonymous, swapped int // kB
}

// unchanged reports whether every page is as in the file, and stays so. What the linker relocates can only be read
// afterwards, and is lost with its page.
func (m *mapping) unchanged() bool {
	return !strings.Contains(m.access, "w") && m.anonymous == 0 && m.swapped == 0
}

// mappingsOf reads /proc/self/smaps, which kernels without CONFIG_PROC_PAGE_MONITOR do not have.
func mappingsOf(path string) (mappings []mapping, err error) {
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	defer smaps.Close()
	var m mapping
	counters := map[string]*int{"Rss:": &m.resident, "Anonymous:": &m.anonymous, "Swap:": &m.swapped}
	inside := false
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch counter := counters[name]; {
		case !strings.HasSuffix(name, ":"): // the first line of a mapping
			if inside {
				mappings = append(mappings, m)
			}
			m = mapping{}
			inside = strings.HasSuffix(lines.Text(), " "+path)
			_, err = fmt.Sscanf(lines.Text(), "%x-%x %s", &m.begin, &m.end, &m.access)
		case counter != nil:
			_, err = fmt.Sscan(value, counter)
		}
		if err != nil {
			return nil, fmt.Errorf("/proc/self/smaps: %q: %w", lines.Text(), err)
		}
	}
	if inside {
		mappings = append(mappings, m)
	}
	return mappings, lines.Err()
}
