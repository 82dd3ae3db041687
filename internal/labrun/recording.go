package labrun

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/rights"
)

// recordingHeader is the first line of a scenario's recording: the header of any recording, and the scenario's result.
type recordingHeader struct {
	events.Header
	Run *lab.Result `json:"run"`
}

// writeRecording writes the recording of a run to dir/NAME/events.MODE.jsonl.
func writeRecording(dir string, sc *lab.Scenario, h events.Header, res *lab.Result, recorded []events.Event) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	h.Host, h.BootID = "", "" // scenarios are the same on every host
	err := enc.Encode(recordingHeader{h, res})
	for i := range recorded {
		if err == nil {
			err = enc.Encode(&recorded[i])
		}
	}
	dir = filepath.Join(dir, sc.Name)
	if err == nil {
		err = rights.AsUser(func() error {
			return errors.Join(
				os.MkdirAll(dir, 0o755),
				os.WriteFile(filepath.Join(dir, "events."+h.Attach+".jsonl"), b.Bytes(), 0o644),
			)
		})
	}
	if err != nil {
		return fmt.Errorf("recording %s: %w", sc.Name, err)
	}
	return nil
}
