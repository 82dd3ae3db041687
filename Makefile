# closetrace: `make run` shows it at work, `make test` runs all that CI runs.

GO       ?= go
KERNEL   ?= 6.1
FUZZTIME ?= 20s
# The version of govulncheck. It reads the Go vulnerability database each time.
VULN     ?= v1.9.0
# The stages of make test. The first two take under four minutes and find most faults.
STAGES   := lint unit generated live lab-live test-fleet vm-all
# What they leave out, to end within an hour: the guests, what live has run; the fleet, its microVM, which takes eight
# minutes, and building Kubernetes, which takes up to 17, once twelve minutes have passed.
IN_TEST   = VM='-native bin/live.json' FLEET='-skip TestStaticPods' MAKE_UNTIL=$$((began + 720))
# Live tests and the lab need root. Root needs no sudo.
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo -E)
# Where make install puts what it installs. DESTDIR stands before all of it.
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
ZSHDIR     ?= $(PREFIX)/share/zsh/site-functions
# The options of the linker: without what only debuggers read; '-s -w' leaves out the symbols as well.
LDFLAGS ?= -w
# The directory that make dist makes, and the commit that it builds.
DIST   ?= dist
COMMIT ?= HEAD
BPF     := $(wildcard bpf/*.c bpf/*.h)
# The directories of make install.
INSTALL      := $(DESTDIR)$(PREFIX)
INSTALL_DIRS  = $(addprefix $(INSTALL)/,bin share/man/man8 share/bash-completion/completions \
	share/fish/vendor_completions.d lib/systemd/system) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(SYSCONFDIR)/closetrace
GOFILES := $(shell git ls-files '*.go' 2>/dev/null | grep -v '_bpfel')

.DEFAULT_GOAL := help
.PHONY: help run build install uninstall dist test-packages generate test generated lint unit fuzz live lab-live vm \
	vm-all test-fleet vuln bench deps record clean

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: build ## build, then provoke and trace every path on this machine
	$(SUDO) ./closetrace lab --tour

build: ## build ./closetrace (needs only Go: the BPF objects are committed)
	@test/deps.sh build
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o closetrace ./cmd/closetrace

install: build ## install to PREFIX (/usr/local): command, manual, completions, systemd unit, configuration
	install -d $(INSTALL_DIRS)
	install -m 755 closetrace $(INSTALL)/bin/closetrace
	umask 022; ./closetrace man $(INSTALL)/share/man/man8
	umask 022; ./closetrace completion bash >$(INSTALL)/share/bash-completion/completions/closetrace
	umask 022; ./closetrace completion fish >$(INSTALL)/share/fish/vendor_completions.d/closetrace.fish
	umask 022; ./closetrace completion zsh >$(DESTDIR)$(ZSHDIR)/_closetrace
	umask 022; sed 's|/usr/bin/closetrace|$(PREFIX)/bin/closetrace|; s|/etc/closetrace|$(SYSCONFDIR)/closetrace|' \
		deploy/systemd/closetrace.service >$(INSTALL)/lib/systemd/system/closetrace.service
	test -e $(DESTDIR)$(SYSCONFDIR)/closetrace/serve.yaml || \
		install -m 644 deploy/systemd/serve.yaml $(DESTDIR)$(SYSCONFDIR)/closetrace/serve.yaml

uninstall: ## remove what make install installed, except the configuration
	rm -f $(INSTALL)/bin/closetrace $(INSTALL)/share/man/man8/closetrace.8 $(INSTALL)/share/man/man8/closetrace-*.8 \
		$(INSTALL)/share/bash-completion/completions/closetrace $(DESTDIR)$(ZSHDIR)/_closetrace \
		$(INSTALL)/share/fish/vendor_completions.d/closetrace.fish $(INSTALL)/lib/systemd/system/closetrace.service

dist: ## build the packages, archives and the image of COMMIT (HEAD) into DIST (dist)
	$(GO) -C deploy/dist run . -commit $(COMMIT) -o '$(abspath $(DIST))'

test-packages: ## build the packages twice, compare and check them, run them under systemd and container engines
	@test/deps.sh packages
	$(GO) -C deploy/dist vet ./...
	$(GO) -C deploy/dist test -count=1 -timeout 120m -v ./...

generate: ## compile bpf/ to internal/probe, and its types to internal/rawevent (needs clang 14 and libbpf's headers)
	$(GO) generate .

test: ## all that CI runs, in this order: lint unit generated live lab-live test-fleet vm-all
	@test/deps.sh test
	@began=$$(date +%s); for stage in $(STAGES); do \
		echo "=== make $$stage"; \
		$(MAKE) --no-print-directory $$stage $(IN_TEST) || { echo "=== make $$stage failed"; exit 1; }; \
	done
	@echo "=== passed: $(STAGES)"

generated: ## check that the committed BPF objects match bpf/
	@sha256sum internal/probe/bpf_*_bpfel.* internal/rawevent/event.go > .generated.sum
	$(GO) generate .
	@sha256sum --check --quiet .generated.sum || { echo "closetrace: generated files do not match bpf/"; \
		echo "hint: commit the files that 'make generate' wrote"; rm -f .generated.sum; exit 1; }
	@rm -f .generated.sum

lint: ## gofmt, vet, staticcheck, clang-format, module file, lines, commit subjects
	@test -z "$$(gofmt -l $(GOFILES))" || { gofmt -d $(GOFILES); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	clang-format-14 --dry-run -Werror $(BPF)
	$(GO) mod tidy -diff
	GOOS=darwin GOARCH=amd64 $(GO) build -o /dev/null ./cmd/closetrace
	GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./cmd/closetrace
	GOOS=darwin $(GO) vet $$(GOOS=darwin $(GO) list -deps ./cmd/closetrace | grep ^github.com/closetrace/)
	GOARCH=arm64 $(GO) build ./...
	$(GO) test -count=1 -run '^TestLint' ./test

unit: ## unit tests, with the race detector, and the tests of recordings and documents
	$(GO) test -race -timeout 20m $$($(GO) list ./cmd/... ./internal/...)
	$(GO) test -timeout 20m $$($(GO) list . ./test/... | grep -v /test/live)

fuzz: ## run each fuzz target for a while: make fuzz FUZZTIME=5m
	GO=$(GO) test/fuzz.sh $(FUZZTIME)

live: build ## live tests on this kernel, with the race detector
	@test/deps.sh test
	$(GO) test -race -c -o bin/live.test ./test/live
	$(SUDO) env CLOSETRACE_LIVE=1 CLOSETRACE_REPORT=bin/live.json PATH="$(CURDIR):$$PATH" bin/live.test -test.v -test.timeout 20m

lab-live: build ## the lab on this kernel, with the scenarios that change a setting of the whole machine
	$(SUDO) ./closetrace lab
	$(SUDO) ./closetrace lab abort.orphan.oom close.rst.oom

vm: ## run the live tests on one Debian kernel in QEMU: make vm KERNEL=6.1
	@test/deps.sh test
	$(GO) run ./test/vm -kernel $(KERNEL)

vm-all: ## run the live tests on every kernel of test/kernels.txt
	@test/deps.sh test
	$(GO) run ./test/vm -kernel all $(VM)

test-fleet: build ## closetrace serve with a real Prometheus, store and Kubernetes, as root (needs the network once)
	@test/deps.sh fleet
	$(SUDO) env CLOSETRACE_FLEET=1 CLOSETRACE_MAKE_UNTIL=$(MAKE_UNTIL) CGO_ENABLED=0 \
		$(GO) test -count=1 -v -timeout 150m $(FLEET) ./test/fleet

vuln: ## search the dependencies for known vulnerabilities (needs the network)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(VULN) ./...

bench: ## measure the cost of tracing in guest instructions, write docs/performance.md
	@test/deps.sh test
	$(GO) run ./test/bench

record: build ## record the events of all scenarios again, here and in microVMs
	test/record.sh

deps: ## install build and test dependencies on Debian and Ubuntu
	@test/deps.sh test

clean: ## remove build output
	rm -rf closetrace bin dist
