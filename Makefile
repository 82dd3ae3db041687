# closetrace: `make run` shows it at work, `make test` runs all that CI runs.

GO       ?= go
KERNEL   ?= 6.1
FUZZTIME ?= 20s
# The version of govulncheck. It reads the Go vulnerability database each time.
VULN     ?= v1.9.0
# The stages of make test. The first two take under four minutes and find most faults.
STAGES   := lint unit generated live lab-live vm-all
# Live tests and the lab need root. Root needs no sudo.
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo -E)
BPF     := $(wildcard bpf/*.c bpf/*.h)
GOFILES := $(shell git ls-files '*.go' 2>/dev/null | grep -v '_bpfel')

.DEFAULT_GOAL := help
.PHONY: help run build generate test generated lint unit fuzz live lab-live vm vm-all test-fleet vuln bench deps record clean

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: build ## build, then provoke and trace every path on this machine
	$(SUDO) ./closetrace lab --tour

build: ## build ./closetrace (needs only Go: the BPF objects are committed)
	@test/deps.sh build
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-w -o closetrace ./cmd/closetrace

generate: ## compile bpf/ to internal/probe (needs clang 14 and libbpf's headers)
	$(GO) generate .

test: ## all that CI runs, in this order: lint unit generated live lab-live vm-all
	@test/deps.sh test
	@for stage in $(STAGES); do \
		echo "=== make $$stage"; \
		$(MAKE) --no-print-directory $$stage VM='-native bin/live.json' || { echo "=== make $$stage failed"; exit 1; }; \
	done
	@echo "=== passed: $(STAGES)"

generated: ## check that the committed BPF objects match bpf/
	@sha256sum internal/probe/bpf_*_bpfel.* > .generated.sum
	$(GO) generate .
	@sha256sum --check --quiet .generated.sum || { echo "closetrace: internal/probe does not match bpf/"; \
		echo "hint: commit the files that 'make generate' wrote"; rm -f .generated.sum; exit 1; }
	@rm -f .generated.sum

lint: ## gofmt, vet, staticcheck, clang-format, module file, lines, commit subjects
	@test -z "$$(gofmt -l $(GOFILES))" || { gofmt -d $(GOFILES); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	clang-format-14 --dry-run -Werror $(BPF)
	$(GO) mod tidy -diff
	GOOS=darwin $(GO) build ./internal/events ./internal/explain ./internal/classify ./internal/record ./internal/filter ./internal/sink ./internal/stuck ./internal/top
	GOARCH=arm64 $(GO) build ./...
	$(GO) test -count=1 -run '^TestLint' ./test

unit: ## unit and replay tests, with the race detector
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v /test/live)

fuzz: ## run each fuzz target for a while: make fuzz FUZZTIME=5m
	GO=$(GO) test/fuzz.sh $(FUZZTIME)

live: build ## live tests on this kernel, with the race detector
	@test/deps.sh test
	$(GO) test -race -c -o bin/live.test ./test/live
	$(SUDO) env CLOSETRACE_LIVE=1 CLOSETRACE_REPORT=bin/live.json PATH="$(CURDIR):$$PATH" bin/live.test -test.v -test.timeout 20m

lab-live: build ## the lab on this kernel
	$(SUDO) ./closetrace lab

vm: ## run the live tests on one Debian kernel in QEMU: make vm KERNEL=6.1
	@test/deps.sh test
	$(GO) run ./test/vm -kernel $(KERNEL)

vm-all: ## run the live tests on every kernel of test/kernels.txt
	@test/deps.sh test
	$(GO) run ./test/vm -kernel all $(VM)

test-fleet: build ## closetrace serve with a real Prometheus and a real store, as root (needs the network once)
	@test/deps.sh test
	$(SUDO) env CLOSETRACE_FLEET=1 $(GO) test -count=1 -v -timeout 55m ./test/fleet

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
	rm -rf closetrace bin
