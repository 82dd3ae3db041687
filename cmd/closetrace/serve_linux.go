package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/config"
	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/message"
	"github.com/closetrace/closetrace/internal/metrics"
	"github.com/closetrace/closetrace/internal/plan"
	"github.com/closetrace/closetrace/internal/rights"
	"github.com/closetrace/closetrace/internal/runtimes"
	"github.com/closetrace/closetrace/internal/serve"
	"github.com/closetrace/closetrace/internal/version"
)

// serveNeedsPrivileges reports whether closetrace serve traces.
func serveNeedsPrivileges(args []string) bool { return !slices.Contains(args, "--"+checkConfig) }

const serveAbout = `closetrace serve traces as a service until SIGTERM, prints no endings and answers HTTP
requests, on the loopback interface unless --listen says otherwise:

  /metrics     for Prometheus: endings and resets by workload, stuck, losses
  /debug/last  the last abnormal endings as JSON, newest first; ?n=N: only N
  /healthz     200 while events are read
  /readyz      200 while endings are traced

The kernel side reports abnormal endings, and only counts ordinary closes. With -w it
reports all of them, for a recording that is bounded by -C and -W, or by --trigger.

A configuration (--config) is a YAML file with a flag a line, without dashes. Flags on
the command line win. SIGHUP reads it again: what is marked "reload" changes at once,
the rest is named and needs a restart. It reports its state to systemd (sd_notify).
`

const serveExamples = `Examples:
  sudo closetrace serve
  sudo closetrace serve --config /etc/closetrace.yaml
  closetrace serve --config /etc/closetrace.yaml --check-config
  sudo closetrace serve -w /var/log/ring.rec.zst -C 100M -W 20 --force
  curl -s localhost:9740/debug/last?n=1
`

// serveFlags are the flags of closetrace serve.
type serveFlags struct {
	traceFlags
	serve.Settings
	export   exportFlags
	settings *config.Settings
	listen   string
	config   string
	only     bool // the configuration is checked
	allNetns bool // of stuck sockets
}

// The flags that are only for the command line.
const checkConfig = "check-config"

var onlyGiven = []string{"config", checkConfig, "help"}

// reloadable are the flags that a reload changes.
var reloadable = []string{"workloads", "series", "workload-expiry", "last", "stuck-every", "shutdown-timeout"}

func newServe(m tracer, s stuckSystem) *cobra.Command {
	f := newServeFlags(m)
	cmd := &cobra.Command{
		Use:   serveName + " [flags]",
		Short: "Trace as a service, with metrics for Prometheus",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), m, s) },

		DisableFlagsInUseLine: true,
	}
	f.attachTo(cmd)
	// Here, and not for each reload: cobra keeps what completes a flag, and with it the flag, for ever.
	complete(cmd, "attach", attachChoice(&f.attach).Words())
	completeList(cmd, "trigger", flagvalue.PatternWords())
	return cmd
}

func newServeFlags(m tracer) *serveFlags {
	f := &serveFlags{
		traceFlags: newTraceFlags(m.console), listen: serve.DefaultListen,
		Settings: serve.Settings{
			Bounds: metrics.DefaultBounds(), Last: 100, StuckEvery: 30 * time.Second, ShutdownTimeout: 5 * time.Second,
		},
	}
	f.shown.Errors = true
	return f
}

// attachTo gives cmd the flags and their help.
func (f *serveFlags) attachTo(cmd *cobra.Command) {
	service := newGroup("Service")
	service.flags.Var(flagvalue.File{Path: &f.config}, "config", "read flags from `FILE`, in YAML; SIGHUP reads it again")
	service.flags.BoolVar(&f.only, checkConfig, false, "only check the configuration")
	service.flags.Var(flagvalue.Listen{Address: &f.listen}, "listen", "answer HTTP requests at `HOST:PORT`")
	service.flags.Var(flagvalue.Duration{Time: &f.ShutdownTimeout}, "shutdown-timeout",
		"at the end, wait for at most `TIME` for exports and requests (reload)")
	verboseFlag(service, &f.verbose)
	helpFlag(service)
	counted := newGroup("Metrics")
	counted.flags.Var(flagvalue.Number{N: &f.Bounds.Workloads, Most: serve.MostSeries}, "workloads",
		"count `N` workloads by name, and the others as \"other\" (reload)")
	counted.flags.Var(flagvalue.Number{N: &f.Bounds.Series, Most: serve.MostSeries}, "series",
		"at most `N` time series for them (reload)")
	counted.flags.Var(flagvalue.Duration{Time: &f.Bounds.Expiry}, "workload-expiry",
		"forget a workload without an ending for `TIME`; 0s: never (reload)")
	counted.flags.Var(flagvalue.Number{N: &f.Last, Most: serve.MostLast}, "last",
		"keep the last `N` abnormal endings for /debug/last (reload)")
	counted.flags.Var(flagvalue.Duration{Time: &f.StuckEvery}, "stuck-every",
		"count sockets that do not close every `TIME`; 0s: never (reload)")
	counted.flags.BoolVar(&f.allNetns, "all-netns", false,
		"count those in all network namespaces; keeps CAP_SYS_ADMIN, to enter them")
	namesFlag(counted, &f.names)
	closeWaitFlag(counted, &f.wait)
	recording := newGroup("Recording")
	f.recordingFlags(recording)
	kernelSide := newGroup("Kernel side")
	attachFlag(kernelSide, &f.attach)
	bufferFlag(kernelSide, &f.buffer)
	help := manual{
		about:  serveAbout,
		groups: []flagGroup{service, counted, f.export.group(), f.filter.flags(netnsNames), recording, kernelSide},
		tail:   hint.LiveExitCodes("tracing, serving or recording failed") + "\n" + serveExamples,
	}
	help.attach(cmd)
	f.settings = config.New(cmd.Flags())
}

// configure reads the configuration, if there is one, and validates all flags. It returns every mistake.
func (f *serveFlags) configure() error {
	var mistakes []error
	if f.config != "" {
		err := rights.AsUser(func() error {
			mistakes = f.settings.ReadFile(f.config, onlyGiven...)
			return nil
		})
		mistakes = append(mistakes, err)
	}
	mistakes = append(mistakes, f.export.validate(f.settings)...)
	mistakes = append(mistakes,
		f.settings.At(f.checkExpiry(), "workload-expiry"),
		f.settings.At(f.checkRotation(), "trigger", "rotate-count", "rotate-size", "rotate-time", "write"),
		f.settings.At(f.filter.contradicts(&f.shown), "port", "lport", "rport"))
	if err := config.Join(mistakes...); err != nil {
		return err
	}
	if f.export.Sample > 0 {
		f.tier = plan.Full // ordinary endings are sent, so the kernel side reports them
	}
	return f.validate()
}

func (f *serveFlags) checkExpiry() error {
	after := f.Bounds.Expiry
	if after == 0 || after >= metrics.LeastExpiry {
		return nil
	}
	return hint.New(hint.Usage, fmt.Sprintf("a workload would expire after %s, before it is scraped", after),
		"use at least 1m, or 0s: never")
}

// reload returns the settings that a new start would have, and what a reload cannot change.
func (f *serveFlags) reload(m tracer) (serve.Settings, []string, error) {
	next, err := f.again(m)
	if err != nil {
		return serve.Settings{}, nil, err
	}
	unchanged := slices.DeleteFunc(next.settings.Changed(f.settings), func(name string) bool {
		return slices.Contains(reloadable, name)
	})
	now, later := &f.export, &next.export
	if now.anonymizeFile != "" && now.anonymizeFile == later.anonymizeFile && !now.Key.Equal(later.Key) {
		unchanged = append(unchanged, keyFile)
		slices.Sort(unchanged)
	}
	return next.Settings, unchanged, nil
}

// again returns the flags that a new start would have.
func (f *serveFlags) again(m tracer) (*serveFlags, error) {
	next := newServeFlags(m)
	next.attachTo(&cobra.Command{})
	if err := next.settings.Repeat(f.settings); err != nil {
		return nil, err
	}
	return next, next.configure()
}

func (f *serveFlags) run(ctx context.Context, m tracer, s stuckSystem) error {
	f.settings.Given()
	if err := f.configure(); err != nil {
		return reportAll(m.console, err)
	}
	if f.only {
		return write(m.console.stdout, "the configuration is valid\n")
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	if err := f.check(&m); err != nil {
		return err
	}
	o := f.options(&m)
	o.LossesTo, o.OutputClosed = o.Stderr, nil
	from, err := f.stuckSource(m, s)
	if err != nil {
		o.Probe.Log.Warn("stuck sockets are not counted", "because", err)
	}
	if from != nil {
		defer from.Close()
	}
	if f.allNetns || len(f.filter.netns) > 0 {
		o.Later = kernel.EntersNetns
	}
	exporters, err := f.export.exporters(o.Probe.Log)
	if err != nil {
		return err
	}
	return serve.Run(ctx, serve.Options{
		Settings: f.Settings, Listen: f.listen, Version: version.Build().Version, Live: o, Stuck: from,
		Reload:  func() (serve.Settings, []string, error) { return f.reload(m) },
		Hangups: hangups, Exporters: exporters,
	})
}

// stuckSource returns the source of stuck sockets. It is opened even if they are not counted now, as a reload may
// change that.
func (f *serveFlags) stuckSource(m tracer, s stuckSystem) (*serve.StuckSource, error) {
	sockets, err := (&stuckFlags{source: sourceAuto}).open(s, m.console.logger(f.verbose))
	if err != nil {
		return nil, err
	}
	from := &serve.StuckSource{
		Source: sockets,
		Namespaces: func() (map[uint32]string, int, error) {
			return s.spaces.Selected(s.spaces.NamesNow(f.selected.paths, f.selected.Netns), f.allNetns)
		},
		Cgroup: func(pid uint32) string { return enrich.ProcessCgroup("/proc", pid) },
	}
	if f.names {
		from.Names = runtimes.New(m.resolvers.Runtimes, m.resolvers.AnswerIn, m.console.logger(f.verbose)).Resolve
	}
	return from, nil
}

// reportAll prints each of several mistakes with its hint.
func reportAll(c *console, err error) error {
	mistakes := hint.Split(err)
	if len(mistakes) == 1 {
		return err
	}
	for _, mistake := range mistakes {
		message.Report(c.stderr, mistake)
	}
	return hint.As(hint.Usage, hint.ErrReported)
}
