# `make` or `make help` lists what there is. Everything runs in .venv, made on first use; Python >= 3.11 and a Rust toolchain are all it needs.
PYTHON ?= python3
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Nothing here needs the network once it is installed, and no test may use it.
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: develop ## The whole walk on the packaged rows: prep, binarize, dSFT, dDPO (about 2 minutes, then in demo/)
	$(BIN)/python scripts/demo.py --out demo

.PHONY: prove
prove: develop ## That it learns: dSFT and dDPO from three seeds, with a table and curves (5 minutes or more, then in proof/)
	$(BIN)/python scripts/prove_learning.py --out proof

.PHONY: test
test: lint test-rust test-python ## Rust and Python tests, lints, type and stub checks

.PHONY: lint
lint: format-check develop ## Formatting, lints, types, and the stubs against the compiled module
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(BIN)/ruff format --check python scripts tests
	$(BIN)/ruff check python scripts tests
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest zephyr_fast._core

# By itself and first, since it needs nothing built.
.PHONY: format-check
format-check:
	cargo fmt --all --check

.PHONY: test-rust
test-rust: ## The engine's tests, which need no Python
	cargo test --locked

.PHONY: test-python
test-python: develop ## The package's tests, with the real trainers (and on real rows, if ZEPHYR_FAST_DATA names their directory)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: test-reliability
test-reliability: develop ## Kills, failing disks, corruption, memory, fuzzing (part of `make test`; ZEPHYR_FAST_LONG=1 for a release)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/reliability

.PHONY: compare
compare: develop ## Traps of other packages side by side with ours, written into docs/reliability.md
	$(BIN)/python scripts/compare_reliability.py

.PHONY: develop
develop: .venv/.installed ## Build the engine into .venv (as `maturin develop` does)
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --locked --skip-install

# The package itself is a path file, so that `maturin develop --skip-install` is all that a change of Rust code needs.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zephyr-fast needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet 'maturin>=1.16,<2'
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --locked --extras train,dev
	touch $@

.PHONY: bench
bench: .venv/.installed ## Our prep, built for speed, against datasets + transformers + TRL (see scripts/benchmarks/ for your own rows)
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --release --locked --skip-install
	$(BIN)/python scripts/benchmarks/end_to_end.py --input sample --compare-ids

.PHONY: wheel
wheel: .venv/.installed ## One abi3 wheel in dist/
	rm -rf dist
	$(BIN)/maturin build --release --locked --out dist

.PHONY: constraints
constraints: ## Renew constraints.txt
	$(PYTHON) -m venv .venv-new
	.venv-new/bin/python -m pip install --quiet --upgrade pip
	PIP_CONSTRAINT= .venv-new/bin/python -m pip install --quiet '.[train,dev]'
	(head -n 1 constraints.txt; .venv-new/bin/python -m pip freeze --exclude zephyr-fast) > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-new
