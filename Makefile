# Weir. `make` alone prints this list.

GO ?= go
# What `make test` hands to go test, besides the packages.
TESTFLAGS ?= -shuffle=on
# How long each fuzz target runs under `make fuzz`.
FUZZTIME ?= 10s
# Which benchmarks run under `make bench`, and how long each.
BENCH ?= .
BENCHTIME ?= 1s
# Options of the suite of HTTP cache behaviour, see examples/gateway/conformance/run.mjs.
CONFORMANCE ?=
# Options of the comparison with the peers: COMPARE=-short is a noisy half minute.
COMPARE ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## start the quickstart on localhost:8080; embedded Redis unless REDIS_URL is set
	$(GO) run ./examples/quickstart

.PHONY: shop
shop: ## start the shop, all of Weir in one application, on localhost:8082; embedded Redis unless REDIS_URL is set
	$(GO) -C examples/shop run .

.PHONY: test
test: ## run all tests; those that need redis-server or chromium are skipped, loudly, without it
	$(GO) test $(TESTFLAGS) ./...
	$(GO) -C examples/shop test $(TESTFLAGS) ./...
	@if command -v redis-server >/dev/null; then $(GO) -C internal/bench test ./...; fi
	@command -v redis-server >/dev/null || { \
		echo; \
		echo "*** NOT PROVED ON A REAL REDIS: there is no redis-server on the PATH, so every"; \
		echo "*** test that needs one was SKIPPED. Remedy: apt-get install -y redis-server"; \
	}
	@command -v chromium >/dev/null || { \
		echo; \
		echo "*** NOT PROVED IN A BROWSER: there is no chromium on the PATH, so the shop's page"; \
		echo "*** was not tried. Remedy: apt-get install -y --no-install-recommends chromium"; \
	}

# What make soak runs: package, and the tests of it that WEIR_SOAK=1 makes long; a line
# each.
define SOAKS
./session ^TestInterleavings
./cache/lock ^TestLocker_(processesUnderFaults|failover|lateAcquire|leavesNoGoroutine)|^TestLease_noRenewal
./cache ^Test(Load_stampede|Interleavings|Near_bound|Cache_DeletePattern_inSteps)
./cache/event ^Test(Gap_everyLoss|Consume_killedOften|Follow_disconnects)
./ratelimit/quota ^TestLedger_exactUnderFaults$$
./middleware ^TestEvents_(disconnects|shutdown)$$
./middleware ^TestIdempotency_(bursts|killed)
./middleware ^TestCache_(collapse|collapseKilled|collapseBroken|privacy|outage|flat)$$
./middleware ^TestPurger_(commands|races|reach)$$
./examples/shop ^TestShop_(killed|redisTakenAway)$$
endef
export SOAKS

.PHONY: soak
soak: ## run the campaigns whose long form is too long for CI (SOAKS); needs redis-server
	@set -e; echo "$$SOAKS" | while read -r package tests; do \
		echo "$$tests in $$package"; \
		WEIR_SOAK=1 WEIR_REQUIRE_REDIS=1 $(GO) -C "$$package" test -race -count=1 -timeout 60m -v -run "$$tests" . </dev/null; \
	done

.PHONY: check
check: ## gofmt, go vet, staticcheck, go mod tidy: all must find nothing
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt'd:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff
	@set -e; for module in internal/bench examples/shop; do \
		echo "$$module"; \
		$(GO) -C $$module vet ./...; \
		$(GO) -C $$module mod tidy -diff; \
		(cd $$module && $$($(GO) -C ../.. tool -n staticcheck) ./...); \
	done

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (10s)
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "$$target in $$(dirname $$file)"; \
			$(GO) test $$(dirname $$file) -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME); \
		done; \
	done

.PHONY: bench
bench: ## run the benchmarks matching BENCH (all), each for BENCHTIME (1s), and Weir beside its peers (8 minutes)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) ./...
	$(GO) -C internal/bench test -run '^$$' -bench '$(BENCH)' -timeout 20m $(COMPARE)
	@PATH="$$PATH:/usr/sbin"; command -v nginx >/dev/null && command -v varnishd >/dev/null || { \
		echo; \
		echo "*** NOT MEASURED BESIDE BOTH nginx AND Varnish: they are not installed."; \
		echo "*** Remedy: apt-get install -y --no-install-recommends nginx-light varnish"; \
	}

.PHONY: conformance
conformance: ## run the public suite of HTTP cache behaviour (npm) against the gateway, both profiles; CONFORMANCE=-v says what fails
	@command -v npm >/dev/null || { echo "needs node 20 and npm: apt-get install -y nodejs npm"; exit 1; }
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && $(GO) build -o "$$dir/gateway" ./examples/gateway && \
		node examples/gateway/conformance/run.mjs -gateway "$$dir/gateway" $(CONFORMANCE)

.PHONY: cover
cover: ## measure what the tests reach; writes cover.out
	$(GO) test -coverpkg=./middleware/...,./ratelimit/...,./session/...,./cache/...,./internal/rdb/...,./internal/respw/...,./internal/rfc9111/... -coverprofile=cover.out ./...
	$(GO) tool cover -func=cover.out | tail -n 1
