# Everything works over all modules of the workspace: the targets find them with
# `go list -m`, so a new module needs a line in go.work and none here.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FUZZTIME ?= 60000x
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# each runs a command in the folder of every module, and stops at the first that
# fails.
each = dirs=$$(go list -m -f '{{.Dir}}'); for dir in $$dirs; do echo "== $$dir"; (cd "$$dir" && $(1)); done

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## Test all modules
	go test work

.PHONY: race
race: ## Test all modules with the race detector (needs cgo)
	go test -race work

.PHONY: lint
lint: ## Check the format, go vet, staticcheck and the conformance list
	@files=$$(gofmt -l .); if [[ -n $$files ]]; then echo "gofmt these files:"; echo "$$files"; exit 1; fi
	go vet work
	@$(call each,go run $(STATICCHECK) ./...)
	go test -count=1 -run TestConformance ./internal/integration

.PHONY: interleavings
interleavings: ## Run every order of store calls of parallel requests (takes long)
	INTERLEAVINGS=all go test -run TestInterleavings -v -timeout 60m ./oauth2pw | grep -v '^=== '

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (60000x, or 10m)
	.ci/fuzz $(FUZZTIME)

.PHONY: bench
bench: ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem work

.PHONY: tidy
tidy: ## Run go mod tidy in each module
	@$(call each,go mod tidy)

.PHONY: alone
alone: ## Build, vet and test each module without the workspace
	@$(call each,export GOWORK=off && go build ./... && go vet ./... && go test ./...)
