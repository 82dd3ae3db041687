# closetrace: `make run` to see it at work, `make test` for all that CI runs.

GO       ?= go
KERNEL   ?= 6.1
FUZZTIME ?= 20s
# Live tests and the lab need root; as root, sudo is not called for.
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo -E)
BPF    := $(wildcard bpf/*.c bpf/*.h)
MINE   := $(shell git ls-files '*.go' 2>/dev/null | grep -v '_bpfel')

.DEFAULT_GOAL := help
.PHONY: help run build generate test generated lint unit fuzz live lab-live vm vm-all bench deps record clean

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: build ## build, then provoke and trace every kind of close on this machine
	$(SUDO) ./closetrace lab

build: ## build ./closetrace (needs Go alone: the BPF objects are committed)
	@test/deps.sh build
	CGO_ENABLED=0 $(GO) build -trimpath -o closetrace ./cmd/closetrace

generate: ## compile bpf/ to internal/probe (needs clang 14 and libbpf's headers)
	$(GO) generate .

test: ## all that CI runs
	@test/deps.sh test
	@$(MAKE) --no-print-directory generated lint unit live lab-live vm-all VM='-native bin/live.json'

generated: ## check that the committed BPF objects are what bpf/ compiles to
	@sha256sum internal/probe/bpf_*_bpfel.* > .generated.sum
	$(GO) generate .
	@sha256sum --check --quiet .generated.sum || { echo "closetrace: internal/probe is not what bpf/ compiles to"; \
		echo "hint: commit the files that 'make generate' has just written"; rm -f .generated.sum; exit 1; }
	@rm -f .generated.sum

lint: ## vet, staticcheck, gofmt, clang-format, module file
	@test -z "$$(gofmt -l $(MINE))" || { gofmt -d $(MINE); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	clang-format-14 --dry-run -Werror $(BPF)
	$(GO) mod tidy -diff
	GOOS=darwin $(GO) build ./internal/events ./internal/explain ./internal/classify ./internal/record ./internal/filter ./internal/sink ./internal/stuck ./internal/top
	GOARCH=arm64 $(GO) build ./...

unit: ## unit and replay tests, with the race detector
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v /test/live)

fuzz: ## give each fuzz target arbitrary input: make fuzz FUZZTIME=5m
	GO=$(GO) test/fuzz.sh $(FUZZTIME)

live: build ## live tests on this kernel, with the race detector
	$(GO) test -race -c -o bin/live.test ./test/live
	$(SUDO) env CLOSETRACE_LIVE=1 CLOSETRACE_REPORT=bin/live.json PATH="$(CURDIR):$$PATH" bin/live.test -test.v -test.timeout 20m

lab-live: build ## the lab on this kernel
	$(SUDO) ./closetrace lab

vm: ## run the live tests on one Debian kernel in QEMU: make vm KERNEL=6.1
	@test/deps.sh test
	$(GO) run ./test/vm -kernel $(KERNEL)

vm-all: ## the same on every kernel of test/kernels.txt
	@test/deps.sh test
	$(GO) run ./test/vm -kernel all $(VM)

bench: ## measure what tracing costs, in guest instructions, and write docs/performance.md
	@test/deps.sh test
	$(GO) run ./test/bench

record: build ## record the events of all scenarios anew, here and in the microVM
	test/record.sh

deps: ## install what building and testing need, on Debian and Ubuntu
	@test/deps.sh test

clean: ## remove what was built
	rm -rf closetrace bin
