# The single entrance. `make help` lists the targets.

SHELL := /bin/sh
CARGO ?= cargo
CONFIG ?=
# What `make test` does where no Docker engine answers: auto leaves out what needs one, require fails.
DOCKER ?= auto
# What `make install` installs, and where: DESTDIR is put in front of every path, for packages.
BINARY ?= target/release/ringmaster
PREFIX ?= /usr/local
DESTDIR ?=
# NATIVE=1: for this machine's processor, and perhaps no other.
NATIVE ?=
ifneq ($(NATIVE),)
export RUSTFLAGS := $(RUSTFLAGS) -C target-cpu=native
endif

.PHONY: help setup run build install pgo test verify fix fuzz bench chaos soak microbench schemathesis sbom auditable images up down logs restart reload

help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:
	@scripts/setup.sh

build: setup ## Builds the release binary, target/release/ringmaster.
	$(CARGO) build --release --locked -p ringmaster

install: ## Installs the binary of `make build` and the systemd unit below PREFIX (/usr/local), as DESTDIR says. Builds nothing.
	@[ -x $(BINARY) ] || { echo "install: $(BINARY) is missing; run \`make build\` first" >&2; exit 1; }
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/ringmaster
	install -D -m 644 conf/ringmaster.yaml $(DESTDIR)$(PREFIX)/share/doc/ringmaster/ringmaster.yaml
	install -D -m 644 conf/systemd/ringmaster.service $(DESTDIR)$(PREFIX)/lib/systemd/system/ringmaster.service
	sed -i 's|/usr/local/bin/|$(PREFIX)/bin/|' $(DESTDIR)$(PREFIX)/lib/systemd/system/ringmaster.service

pgo: setup ## Builds target/release-pgo/ringmaster, laid out by what a trial load runs through; takes several builds.
	@scripts/pgo.sh

run: build ## Runs the balancer with three replicas on :5000. CONFIG=FILE for a configuration of your own.
	@exec target/release/ringmaster $(if $(CONFIG),-c $(CONFIG))

# What the test of the images builds, with its settings: before the tests, which a compiler beside them would slow down.
test: export CARGO_PROFILE_RELEASE_LTO = off
test: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS = 16
test: export CARGO_PROFILE_RELEASE_OPT_LEVEL = 1
test: setup ## Runs every test. DOCKER=require fails where no engine answers instead of leaving tests out.
	@! scripts/engine.sh >/dev/null 2>&1 || scripts/static.sh
	RINGMASTER_DOCKER=$(DOCKER) $(CARGO) test --workspace --locked

verify: setup ## Checks format, lints, documentation and dependencies. Writes nothing.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked
	@if command -v cargo-deny >/dev/null 2>&1; then \
		$(CARGO) deny --locked check; \
	else \
		echo "verify: cargo-deny is not installed; licences and advisories were not checked"; \
	fi

fix: setup ## Repairs format and what the lints can repair.
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all

fuzz: setup ## Looks for bytes that a parser does not stand: FUZZ_SECONDS (60) for each target, or for TARGET alone.
	@scripts/fuzz.sh $(TARGET)

bench: setup ## Compares with nginx, HAProxy, Caddy and bare Pingora, runs the experiments, writes docs/performance.md.
	@scripts/bench.sh

chaos: setup ## Lets faults and overload loose on a balancer of its own, writes docs/reliability.md.
	@scripts/chaos.sh chaos overload

soak: setup ## Loads and changes a balancer for half an hour and looks whether it grows. MINUTES=N for another time.
	@scripts/chaos.sh soak

microbench: setup ## Measures parts alone: choosing a replica, building, changing and comparing tables, counting a request.
	$(CARGO) bench --locked -p ringmaster-fleet
	$(CARGO) bench --locked -p ringmaster --features bench

schemathesis: setup ## Calls the admin API with what its OpenAPI document allows and what it does not; needs Python and PyPI.
	$(CARGO) build --locked -p ringmaster
	@scripts/schemathesis.sh

sbom: ## Writes what the binaries are made of into target/sbom, as CycloneDX; installs a tool on demand.
	@scripts/sbom.sh

auditable: setup ## Builds the release binary with the list of its crates inside; installs a tool on demand.
	@scripts/auditable.sh

images: ## Builds the images ringmaster:local and ringmaster-server:local; needs an engine, no registry.
	@scripts/images.sh

up: images ## Runs the balancer and three replicas in containers on :5000. OBSERVE=1 adds Prometheus and Grafana.
	@scripts/compose.sh up

down: ## Removes everything that `make up` made.
	@scripts/compose.sh down

logs: ## Follows the containers' logs.
	@scripts/compose.sh logs

restart: ## Restarts the containers.
	@scripts/compose.sh restart

reload: ## Has the balancer in its container read docker/config/ringmaster.yaml again.
	@scripts/compose.sh reload
