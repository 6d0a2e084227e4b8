# make demo      shows Tributary with real MySQL servers on this machine (KEEP=1 leaves them running)
# make test      every test, those with real servers included, whether seeded defects are found, and fuzzing
# make test-clients  of these: MariaDB replicas, Debezium, Canal, go-mysql and other clients behind the service (fetches them)
# make build     the programs, into $(CARGO_TARGET_DIR)/release
# make lint      formatting, clippy, documentation
# make fuzz      every fuzzing target for FUZZ_SECONDS (60), from the corpus in fuzz/corpus
# make bench     throughput, beside MySQL's own programs (BENCH_ARGS=--quick only tries it out)
# make clean     removes what was built and fetched
#
# Everything is built in one profile and one directory outside the clone, so that RocksDB's C++ is
# compiled once. What is missing (a C++ compiler, libclang, ccache, a MySQL server) is installed or
# fetched by tools/get-build-deps and tools/get-mysql.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

cache := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/tributary
export CARGO_TARGET_DIR ?= $(cache)/target

cargo := tools/with-ccache cargo
programs := $(CARGO_TARGET_DIR)/release

.PHONY: demo test test-clients build lint fuzz bench clean deps

deps:
	@tools/get-build-deps

build: deps
	$(cargo) build --release --workspace --bins --locked

demo: build
	@tools/get-mysql >/dev/null
	$(programs)/tributary-demo $(if $(KEEP),--keep) $(DEMO_ARGS)

# Tests start the programs, so those are built first. Properties are tried with the same random values in every run, so that a change is
# refused for what it does only; `PROPTEST_RNG_SEED=2 PROPTEST_CASES=5000 make test` tries others.
test: export PROPTEST_RNG_SEED ?= 1
test: build
	@tools/get-mysql >/dev/null
	$(cargo) test --release --workspace --locked $(TEST_ARGS)
	$(cargo) test --release --locked -p tributary-tests --features mutants --test sim -- mutants
	$(cargo) test --release --locked -p tributary-merger --features mutants --test main -- mutants
	@tools/fuzz corpus
	$(MAKE) --no-print-directory test-clients

# Without what make sets for the other builds: the targets are compiled with coverage counters, into a directory of their own.
fuzz: deps
	@tools/fuzz $(FUZZ_TARGETS)

test-clients: build
	@tools/get-mysql >/dev/null
	@tools/get-mariadb >/dev/null
	@tools/get-mariadb trixie >/dev/null
	@tools/get-client --all >/dev/null
	$(cargo) test --release --workspace --locked --test clients -- --nocapture --test-threads=1

lint: deps
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	$(cargo) clippy --release --workspace --all-targets --locked -- -D warnings
	$(cargo) clippy --release --workspace --test clients --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(cargo) doc --release --workspace --no-deps --document-private-items --locked

bench: build
	@tools/get-mysql >/dev/null
	$(programs)/tributary-bench all --json $(cache)/bench.json $(BENCH_ARGS)

clean:
	cargo clean
	rm -rf $(cache)/target-fuzz
	rm -rf $(cache)/mysql $(cache)/mysql-*
