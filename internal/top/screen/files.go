package screen

import "os"

// ForgetFiles unsets variables that name files which the library of the screen would open with the capabilities of this
// process: a log, and descriptions of terminals. Root may read and write them anyway, but has no use for the log.
func ForgetFiles() error {
	names := []string{"TEA_TRACE"}
	if os.Getuid() != 0 {
		names = append(names, "TERMINFO", "TERMINFO_DIRS")
	}
	for _, name := range names {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	return nil
}
