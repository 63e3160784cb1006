# Short names for the steps of .ci/run, and what is run by hand. Everything works over all
# modules of the workspace: a new module needs a line in go.work and none here.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FUZZTIME ?= 60000x

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## Test all modules
	go test work

.PHONY: ci
ci: ## Everything that must pass before a change lands
	.ci/run

.PHONY: race
race: ## Test all modules with the race detector (needs cgo)
	.ci/run race

.PHONY: lint
lint: ## Check the format, go vet, staticcheck, the conformance list and the prose
	.ci/run lint

.PHONY: alone
alone: ## Build, vet and test each module without the workspace
	.ci/run alone

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (60000x, or 10m)
	FUZZ_BUDGET=$(FUZZTIME) .ci/run fuzz

.PHONY: vulnerabilities
vulnerabilities: ## Run govulncheck in each module
	.ci/run vulnerabilities

.PHONY: interleavings
interleavings: ## Run every order of store calls of parallel requests (takes long)
	INTERLEAVINGS=all go test -run TestInterleavings -v -timeout 120m ./oauth2pw | grep -v '^=== '

.PHONY: soak
soak: ## Run the long forms of the tests of faults: kills, restarts, locks, races (takes long)
	PASSWORDFLOW_SOAK=1 go test -count=1 -run '^(TestFleet|TestPromotion|TestLockedDatabase|TestFullDisk|TestContextEndsAtEachStep|TestReuseRacesRefresh)$$' -v -timeout 120m ./internal/integration | grep -v '^=== '
	cd store/redisstore && PASSWORDFLOW_SOAK=1 go test -count=1 -run '^Test(Cluster|Sentinel|Restart|Reuse)' -v -timeout 60m . | grep -v '^=== '

.PHONY: others
others: ## Test the stores with Valkey, MySQL and later versions, from Debian 13 and unstable
	.ci/others

.PHONY: bench
bench: ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem work

.PHONY: tidy
tidy: ## Run go mod tidy in each module
	@dirs=$$(go list -m -f '{{.Dir}}'); for dir in $$dirs; do echo "== $$dir"; (cd "$$dir" && go mod tidy); done
