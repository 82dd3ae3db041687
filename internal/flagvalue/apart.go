package flagvalue

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/closetrace/closetrace/internal/hint"
)

// Apart returns an error if the first argument is probably the value of a flag of a time: one whose value may be left
// out takes none after a blank. The flag may be nil.
func Apart(flag *pflag.Flag, args []string) error {
	if flag == nil || !flag.Changed || len(args) == 0 {
		return nil
	}
	if _, err := time.ParseDuration(args[0]); err != nil {
		return nil
	}
	return hint.New(hint.Usage, fmt.Sprintf("--%s takes its value after =, not %q", flag.Name, args[0]),
		fmt.Sprintf("use --%s=%s", flag.Name, args[0]))
}
