# The commands of this repository; `make help` lists them. `make test` is what
# the README tells a person to run and what .ci/run runs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Not every checkout may be asked for its revision (another owner, no git).
export GOFLAGS := -buildvcs=false $(GOFLAGS)

FUZZTIME ?= 20s
BENCH ?= .
STATICCHECK := go tool -modfile=tools/go.mod staticcheck
DEPLOYCHECK := go tool -modfile=../go.mod staticcheck

# Go files of ours that a person wrote: known to git or new, never from node_modules.
OURS = git ls-files -co --exclude-standard '*.go' ':!*.pb.go' | sort -u | while read -r f; do [[ ! -e $$f ]] || echo "$$f"; done

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install what the tests need and this machine lacks (redis-server, chromium, npm packages)
	@scripts/deps

.PHONY: test
test: deps lint check-gen go-test fault-short js-test deploy-test ## everything: lint, generated code, Go tests with -race, a selection of the faults, browser client tests, what is deployed; REDIS_SERVER=<path> takes another redis-server

.PHONY: go-test
go-test: # vet ran in lint, in full
	go test -race -vet=off -timeout 12m ./...
	go test -vet=off -timeout 5m ./internal/session ./internal/transport/ws ./pkg/fanout # what allocates nothing, and more schedules of the model

.PHONY: js-test
js-test:
	@if [[ -f client/package.json ]]; then cd client && npm test; fi

.PHONY: deploy-test
deploy-test: # a module of its own, so that the product depends on none of its tools; -count=1: go test does not see that deploy/ changed
	cd tools/deploy && go vet ./... && $(DEPLOYCHECK) ./... && go test -count=1 ./...

.PHONY: manifests
manifests: ## build deploy/k8s and hold it against the schemas of Kubernetes, without a cluster
	@go run -C tools/deploy ./manifests check

.PHONY: image
image: ## both programs as images in an OCI layout (dist/oci), without a container engine
	@scripts/image

.PHONY: race
race: ## only the Go tests, with -race, without installing anything
	go test -race -timeout 12m ./...

.PHONY: e2e
e2e: deps ## only the tests that need several processes or a browser
	go test -count=1 -timeout 12m ./test/...

.PHONY: fault
fault: deps ## break a running Allim in every way of the list and see that it keeps its promises (20 minutes); ALLIM_SEED repeats one
	go test -tags fault -vet=off -count=1 -v -timeout 40m ./test/fault

.PHONY: fault-short
fault-short: ## a selection of it that meets each mechanism once (4 minutes); they measure time, so nothing runs beside it
	ALLIM_FAULT=short go test -tags fault -vet=off -count=1 -v -timeout 12m -run TestNothingIsLost ./test/fault

.PHONY: load
load: ## measure it against a naive server, on a quiet machine (25 minutes; dist/load); LOAD="-only fanout -rounds 1" chooses
	go run ./test/load $(LOAD)

.PHONY: load-rivals
load-rivals: ## the same with a Centrifugo, where one is on the PATH
	go run ./test/load -rivals $(LOAD)

.PHONY: autobahn
autobahn: ## the Autobahn suite against the WebSocket echo of `allim conformance`; needs docker, and says so where there is none
	@scripts/autobahn

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (20s) each
	@scripts/fuzz "$(FUZZTIME)"

.PHONY: bench
bench: ## micro-benchmarks; BENCH=regexp chooses
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: gen
gen: ## make the generated code anew: protobuf, gRPC, the client's one-file build
	cd proto && npx --no-install buf generate
	@if [[ -f client/package.json ]]; then cd client && npm run --silent --if-present build; fi

.PHONY: check-gen
check-gen: ## fail if the generated code is not what `make gen` makes
	@scripts/check-gen

.PHONY: lint
lint: ## formatting, go vet, staticcheck, buf lint
	@bad=$$($(OURS) | xargs -r gofmt -l); [[ -z $$bad ]] || { printf 'not formatted (make fmt):\n%s\n' "$$bad"; exit 1; }
	go vet ./...
	go vet -tags fault ./test/fault
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags fault ./test/fault
	cd proto && npx --no-install buf lint

.PHONY: fmt
fmt: ## format Go and protobuf files
	@$(OURS) | xargs -r gofmt -w
	cd proto && npx --no-install buf format --write --path allim

.PHONY: shots
shots: deps ## take the pictures of the demo anew (docs/screens, docs/demo.png)
	mkdir -p docs/screens && ALLIM_SHOTS=$(CURDIR)/docs/screens go test -count=1 -run 'TestTwoPeopleUseTheDemo|TestWhoIsAsked' ./cmd/allim

.PHONY: demo
demo: ## the whole of Allim in one process with an example page
	go run ./cmd/allim demo
