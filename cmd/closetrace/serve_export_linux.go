package main

import (
	"log/slog"
	"os"

	"github.com/closetrace/closetrace/internal/anonymize"
	"github.com/closetrace/closetrace/internal/config"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/metrics"
	"github.com/closetrace/closetrace/internal/otlp"
	"github.com/closetrace/closetrace/internal/rights"
	"github.com/closetrace/closetrace/internal/serve"
)

// exportFlags are the flags of closetrace serve for what it sends to a collector.
type exportFlags struct {
	otlp.Options
	anonymizeFile string
}

// keyFile is the flag of the file of a key.
const keyFile = "anonymize-file"

func (f *exportFlags) group() flagGroup {
	g := newGroup("Export")
	g.flags.Var(urlFlag{&f.URL}, "otlp", "send abnormal endings as OpenTelemetry logs to `URL`, a collector or a store")
	g.flags.Var(flagvalue.Share{Of: &f.Sample}, "otlp-sample",
		"send ordinary endings, too, of this `SHARE` of the connections, the same on each host")
	f.Rate = otlp.DefaultRate
	g.flags.Var(flagvalue.Count{N: &f.Rate}, "otlp-rate",
		"send at most `N` records a second one by one (2000); equal endings beyond it share one")
	g.flags.Var(keyFlag{&f.Key}, "anonymize", "send hashes with `KEY` instead of addresses and names")
	g.flags.Var(flagvalue.File{Path: &f.anonymizeFile}, keyFile, "the same with the key in `FILE`")
	return g
}

// urlFlag is the URL of a collector. An empty one, for example of a variable that is not set, is an error.
type urlFlag struct{ url *string }

func (u urlFlag) String() string { return "" }

func (u urlFlag) Type() string { return "URL" }

func (u urlFlag) Set(text string) error {
	*u.url = text
	_, err := otlp.Endpoint(text)
	return err
}

// keyFlag is a key in the text of a flag. An empty one, for example of a variable that is not set, is an error: without
// a key everything is sent in clear.
type keyFlag struct{ key **anonymize.Key }

func (k keyFlag) String() string { return "" }

func (k keyFlag) Type() string { return "KEY" }

func (k keyFlag) Set(text string) (err error) {
	*k.key, err = anonymize.ParseKey(text)
	return err
}

// validate reads the key and the variables of OpenTelemetry. It returns every mistake, with its line in the settings.
func (f *exportFlags) validate(s *config.Settings) []error {
	if f.URL == "" {
		if f.Sample == 0 && f.Rate == otlp.DefaultRate && f.Key == nil && f.anonymizeFile == "" {
			return nil
		}
		err := hint.New(hint.Usage, "nothing is exported", "add --otlp URL, or leave out the other flags of the export")
		return []error{s.At(err, "otlp-sample", "otlp-rate", "anonymize", keyFile, "otlp")}
	}
	var headers, resource error
	f.Headers, headers = otlp.ParseHeaders(os.Getenv(otlp.HeadersVariable))
	f.Resource, resource = otlp.ParseList(otlp.ResourceVariable, os.Getenv(otlp.ResourceVariable))
	return []error{s.At(f.readKey(), keyFile, "anonymize"), headers, resource}
}

// readKey reads the key from its file, if it is in one.
func (f *exportFlags) readKey() error {
	switch {
	case f.anonymizeFile == "":
		return nil
	case f.Key != nil:
		return hint.New(hint.Usage, "two keys: --anonymize and --anonymize-file", "leave out one of them")
	}
	return rights.AsUser(func() (err error) {
		f.Key, err = anonymize.ReadKey(f.anonymizeFile)
		return err
	})
}

// exporters returns what sends endings.
func (f *exportFlags) exporters(log *slog.Logger) ([]serve.Exporter, error) {
	if f.URL == "" {
		return nil, nil
	}
	o := f.Options
	o.Workload = metrics.NameOf
	o.Report = func(err error) { log.Warn("endings are not exported", "because", err) }
	x, err := otlp.New(o)
	if err != nil {
		return nil, err
	}
	return []serve.Exporter{x}, nil
}
