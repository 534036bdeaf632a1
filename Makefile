# Everything a developer types. `make` alone lists it. Needs Debian's build tools, Python >= 3.10 and Rust.

PYTHON ?= python3
# `make build PROFILE=` builds without optimisation, in a third of the time.
PROFILE ?= --release
VENV := .venv
BIN := $(VENV)/bin
export VIRTUAL_ENV := $(abspath $(VENV))
export PYO3_PYTHON := $(abspath $(BIN)/python)

PYTHON_CODE := python examples benches tests
TYPED_CODE := python/msprof_rs examples/any_program.py examples/own_spans.py examples/demo.py $(filter-out benches/step_cost.py,$(wildcard benches/*.py))

.DEFAULT_GOAL := help
.PHONY: help venv build demo test format lint torture loom fuzz libraries releases e2e bench instructions throughput clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.ready  ## make .venv with the pinned tools

$(VENV)/.ready: tests/requirements.txt
	@echo "making $(VENV) with the pinned tools"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt
	touch $@

$(VENV)/.bench-ready: benches/requirements.txt $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement benches/requirements.txt
	touch $@

build: venv  ## build the extension module into .venv
	@echo "building the extension module: some minutes the first time, less after a change"
	$(BIN)/maturin develop $(PROFILE) --quiet

demo: build  ## serve, collect, parse: the whole way with the example service
	$(BIN)/python examples/demo.py build/demo

test: venv  ## Rust tests (no Python needed), then the Python tests on a fresh build
	cargo test --quiet
	$(MAKE) build
	$(BIN)/pytest tests --ignore=tests/e2e --ignore=tests/libraries --ignore=tests/releases

format:  ## format the Rust and the Python code
	cargo fmt
	$(BIN)/ruff check --fix --quiet $(PYTHON_CODE)
	$(BIN)/ruff format --quiet $(PYTHON_CODE)

lint: venv  ## formatters, clippy, ruff, mypy and pyright; warnings are errors
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet --all-targets --features python -- -D warnings
	$(BIN)/ruff check $(PYTHON_CODE)
	$(BIN)/ruff format --check $(PYTHON_CODE)
	$(BIN)/mypy $(TYPED_CODE)
	$(BIN)/basedpyright
	cd examples/service && $(abspath $(BIN)/mypy) --config-file ../../pyproject.toml serve.py
	cd tests && $(abspath $(BIN)/mypy) --config-file ../pyproject.toml --exclude e2e/conftest.py .
	cd tests && $(abspath $(BIN)/mypy) --config-file ../pyproject.toml e2e/conftest.py

torture: build  ## the long form: thousands of random programs, 32 million calls in 32 threads
	TORTURE=$(or $(BATCHES),150) $(BIN)/pytest tests/torture tests/test_concurrency.py tests/test_leftovers.py \
	  tests/test_ends_of_threads.py tests/test_inlined.py

loom:  ## every interleaving of a ring's two sides, by a model checker
	CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg model_check" cargo test --quiet --lib ring::mapped

FUZZ = target/tools/bin/cargo-fuzz
$(FUZZ):
	cargo install --quiet --root target/tools cargo-fuzz

# The options that it needs are unstable; no other compiler has to be there for them.
fuzz: $(FUZZ)  ## the readers with damaged files, FUZZ_SECONDS=300 each
	for target in capture ring; do \
	  RUSTC_BOOTSTRAP=1 $(FUZZ) run --sanitizer none $$target -- -max_total_time=$(or $(FUZZ_SECONDS),300) -max_len=4096 -rss_limit_mb=512 \
	  || exit 1; done

libraries: build  ## tests of libraries from PyPI, bare and with all of their functions hooked
	$(BIN)/pytest tests/libraries

releases: build  ## the symbol packs against the sources of vLLM, vLLM-Ascend and SGLang; ALL=1 for every release
	$(BIN)/pytest tests/releases

e2e: venv  ## the real vLLM on CPython 3.11 and 3.12; makes its environments on first use (12 GB)
	$(BIN)/pytest tests/e2e

# For other versions: make bench PYTHON=python3.13 VENV=.venv313
bench: build $(VENV)/.bench-ready  ## what an import costs, what a hook adds to a call, beside its peers, and to an engine step
	$(BIN)/python benches/import_cost.py
	$(BIN)/python benches/call_cost.py
	$(BIN)/python benches/spans.py
	$(BIN)/python benches/handlers.py
	$(BIN)/python benches/step_cost.py
	$(BIN)/python benches/sustained.py
	cargo bench --quiet --bench recorder
	cargo bench --quiet --bench reader
	cargo bench --quiet --bench parse

instructions: build  ## instructions of a call, counted by callgrind, against the table; UPDATE=1 writes it
	$(BIN)/python benches/instructions.py $(if $(UPDATE),--update,$(if $(CI),--hooks))

throughput: venv  ## what collection costs the real vLLM, in paired runs (a quarter of an hour)
	PYTHONPATH=tests $(BIN)/python tests/e2e/throughput.py

clean:  ## remove everything that was built
	cargo clean --quiet
	rm -rf build $(VENV) .mypy_cache .pytest_cache .ruff_cache python/msprof_rs/*.so
