# The verbs of the project. `make` alone lists them.
#
# Every verb does its own set-up. Settings are variables: `make demo ONCE=1`, `make bench QUICK=1`.
# Variables of the command line reach the programs through the environment: make exports them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2
# Where cargo puts what it builds: CARGO_TARGET_DIR moves it.
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Options for cargo's test runner, as in `make test TESTS=reload`.
TESTS ?=

.PHONY: help
help: ## list the verbs
	@echo "Holdfast: make VERB [SETTING=value]"
	@echo
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: compiler prometheus ## install what building and checking needs (C compiler, rustfmt, clippy, cargo-deny, Prometheus)
	@for part in rustfmt clippy; do \
	    tool=$$part; [ $$part = clippy ] && tool=cargo-clippy; \
	    command -v $$tool >/dev/null || rustup component add $$part \
	        || echo "setup: $$part could not be installed; \`make check\` will need it."; \
	done
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    echo "setup: $$($(CARGO) deny --version) is there."; \
	else \
	    echo "setup: compiling cargo-deny $(CARGO_DENY_VERSION); this takes several minutes."; \
	    $(CARGO) install --locked cargo-deny@$(CARGO_DENY_VERSION) \
	        || echo "setup: cargo-deny could not be installed; \`make check\` will go on without it."; \
	fi

# Debian's package starts a service. What is wanted here are its programs: a policy that refuses to
# start anything holds while the package is installed.
.PHONY: prometheus
prometheus:
	@if command -v prometheus >/dev/null && command -v promtool >/dev/null; then \
	    exit 0; \
	fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	    echo "setup: without prometheus and promtool, \`make observe\` skips what needs them."; \
	    exit 0; \
	fi; \
	echo "setup: installing Prometheus, without starting it."; \
	policy=/usr/sbin/policy-rc.d; \
	if [ ! -e $$policy ]; then \
	    trap "rm -f $$policy" EXIT; \
	    printf '#!/bin/sh\nexit 101\n' > $$policy; chmod +x $$policy; \
	fi; \
	apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -q --no-install-recommends prometheus \
	    || echo "setup: Prometheus could not be installed; \`make observe\` will skip what needs it."

# aws-lc-sys compiles C and needs nothing else on Linux: no cmake, no Go, no bindgen.
.PHONY: compiler
compiler:
	@if ! command -v $(CARGO) >/dev/null; then \
	    echo "Rust is missing: see https://rustup.rs"; exit 1; \
	fi
	@if ! echo '#include <stdlib.h>' | cc -E - >/dev/null 2>&1; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        echo "setup: installing a C compiler."; \
	        apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	            apt-get install -y -q --no-install-recommends gcc libc6-dev; \
	    else \
	        echo "setup: a C compiler is missing and installing one needs root:" \
	            "sudo apt-get install gcc libc6-dev"; \
	    fi; \
	fi

.PHONY: build
build: compiler ## build frps and frpc (release, into target/release)
	$(CARGO) build --release --locked -p frps -p frpc
	@ls -lh $(TARGET_DIR)/release/frps $(TARGET_DIR)/release/frpc

.PHONY: dist
dist: compiler ## pack stripped programs as .deb, tarball and root of a container into dist/, and check them (BIN_DIR=dir: programs that are built already)
	@if [ -z "$${BIN_DIR:-}" ]; then \
	    echo "dist: building frps and frpc; the first time takes several minutes."; \
	    $(CARGO) build --release --locked -p frps -p frpc; \
	fi
	@packaging/build "$${BIN_DIR:-$(TARGET_DIR)/release}" dist
	@packaging/check dist

.PHONY: demo
demo: compiler ## show a tunnel at work on this machine until Ctrl-C (ONCE=1: check it and end; LINK=bad: a minute on a bad link, as root)
	@echo "demo: building frps, frpc and the demo; the first time takes a few minutes."
	$(CARGO) build --release --locked -p frps -p frpc -p netem-tests --bin frps --bin frpc --bin demo
	@$(TARGET_DIR)/release/demo

.PHONY: test
test: compiler ## run all tests (FULL=1: the big transfers too; TESTS=name: only those)
	@# The tests of netem-tests run the built programs, so everything is built first, once.
	$(CARGO) build --locked --workspace --all-targets
	$(CARGO) test --locked --workspace --doc -- $(TESTS)
	$(CARGO) test --locked --workspace --no-fail-fast --lib --bins --tests -- $(TESTS)

.PHONY: netem
netem: compiler ## test on bad links, with the kernel's netem as well (QUICK=1: without the long measurements)
	@netem-tests/run-netem

# A verb of its own: it compiles a second QUIC, and what that shares with the first once more.
.PHONY: test-s2n
test-s2n: compiler ## test QUIC by s2n-quic, alone and against quinn (2 minutes to compile; not in CI)
	$(CARGO) clippy --locked -p transports --features s2n --all-targets -- -D warnings
	$(CARGO) test --locked -p transports --features s2n --test s2n
	$(CARGO) test --locked -p transports --features s2n --test contract s2n

.PHONY: check
check: lint ## format, lints and the fast tests; a commit passes it
	$(CARGO) test --locked --workspace --lib --bins

.PHONY: lint
lint: compiler ## format, clippy and cargo-deny only
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    $(CARGO) deny --log-level error check bans licenses sources; \
	else \
	    echo; \
	    echo "***  NOT CHECKED: licences, bans and sources. cargo-deny is not installed (make setup).  ***"; \
	    echo; \
	fi

.PHONY: advisories
advisories: ## ask the RustSec database about the dependencies (needs the network)
	$(CARGO) deny check advisories

.PHONY: bench
bench: compiler ## measure on loopback and bad links, write docs/benchmarks.md (QUICK=1: 3 minutes; PART=other: other links; PART=faults, switching, idle: docs/switching.md; LOAD=1: what one server carries, docs/operations.md; PART=metrics: what metrics cost; ONLY=name, FRP_PEER_DIR=dir)
	$(CARGO) build --release --locked -p frps -p frpc -p netem-tests --bin frps --bin frpc --bin bench
	@$(TARGET_DIR)/release/bench

.PHONY: observe
observe: compiler ## test metrics, dashboards and alerts with a real Prometheus, on a bad link (root; make setup installs it)
	$(CARGO) build --locked -p frps -p frpc --bin frps --bin frpc
	$(CARGO) test --locked -p netem-tests --test metrics --test observe -- --nocapture $(TESTS)

.PHONY: pictures
pictures: compiler ## draw the panels of the dashboards from a run on a bad link with faults, into docs/ (root, Prometheus; 3 minutes)
	$(CARGO) build --release --locked -p frps -p frpc -p netem-tests --bin frps --bin frpc --bin pictures
	@$(TARGET_DIR)/release/pictures

.PHONY: soak
soak: compiler ## users and faults by the minute, each byte checked (MINUTES=60, SEED=n; REPORT=1: into docs/soak.md; root)
	@echo "soak: building frps, frpc and the soak; the first time takes a few minutes."
	$(CARGO) build --release --locked -p frps -p frpc -p netem-tests --bin frps --bin frpc --bin soak
	@$(TARGET_DIR)/release/soak

.PHONY: peer
peer: compiler ## test against Go frp (FRP_PEER_DIR=dir with its frps and frpc; FULL=1: 1 GiB each way)
	@if [ ! -x "$${FRP_PEER_DIR:-}/frps" ] || [ ! -x "$${FRP_PEER_DIR:-}/frpc" ]; then \
	    echo "FRP_PEER_DIR must name a directory with frp's frps and frpc in it."; exit 1; \
	fi
	$(CARGO) build --release --locked -p frps -p frpc
	BIN_DIR="$(TARGET_DIR)/release" $(CARGO) test --locked -p netem-tests --test peer -- --nocapture $(TESTS)
	@# Rows of a table that mostly wait: several at a time, with their times (FULL=1: 100 MiB each way).
	BIN_DIR="$(TARGET_DIR)/release" $(CARGO) test --locked -p netem-tests --test peer_links -- --test-threads=4 $(TESTS)
