# Run `make help` for a list of targets. Everything runs in .venv, which is created on first use. Requires Python >= 3.11 and a Rust toolchain.
PYTHON ?= python3
BIN := .venv/bin
# One process of tests per core, up to four: several of them train models at the same time.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# After the installation, no target and no test needs the network.
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: develop ## Run prep, binarize, SFT and DPO on the bundled rows (about 2 minutes on idle cores, output in demo/)
	$(BIN)/python scripts/demo.py --out demo

.PHONY: prove
prove: develop ## Train SFT and DPO from three seeds and plot the results (5 minutes or more, output in proof/)
	$(BIN)/python scripts/prove_learning.py --out proof

# The model's file is converted once, with a package that nothing else needs.
.PHONY: story
story: develop ## Run the recipe from a teacher to a radar with SmolLM2-135M (about 10 minutes, output in story/)
	test -d story/smollm2 || $(BIN)/python -m pip install --quiet gguf
	scripts/zephyr.sh --out story

.PHONY: test
test: lint test-rust test-python ## Run all tests, lints and type checks

.PHONY: lint
lint: format-check develop ## Check formatting, lints, types and stubs
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(BIN)/ruff format --check python scripts tests
	$(BIN)/ruff check python scripts tests
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest zephyr_fast._core

# A separate target that runs first, because it needs no build.
.PHONY: format-check
format-check:
	cargo fmt --all --check

.PHONY: test-rust
test-rust: ## Run the Rust tests, which do not need Python
	cargo test --locked

.PHONY: test-python
test-python: develop ## Run the Python tests (also on real rows, if ZEPHYR_FAST_DATA names their directory)
	$(PYTEST)

.PHONY: test-reliability
test-reliability: develop ## Run the reliability tests (part of `make test`, ZEPHYR_FAST_LONG=1 for the long version)
	$(PYTEST) tests/reliability

.PHONY: compare
compare: develop ## Compare reliability with other packages and update docs/reliability.md
	$(BIN)/python scripts/compare_reliability.py

.PHONY: reference
reference: develop ## Update docs/reference and the schemas from the sources
	ZEPHYR_FAST_RENEW_SCHEMA=1 cargo test --locked -p zephyr-core --lib -- schema columns
	$(BIN)/python scripts/write_reference.py

.PHONY: develop
develop: .venv/.installed ## Build the engine into .venv (like `maturin develop`)
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --locked --skip-install

# The package is installed as a path file, so after a change of Rust code `maturin develop --skip-install` is enough.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zephyr-fast needs Python 3.11 or newer; select one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet 'maturin>=1.16,<2'
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --locked --extras train,dev
	touch $@

.PHONY: bench
bench: .venv/.installed ## Compare `prep` with datasets + transformers + TRL (see scripts/benchmarks/ for your own rows)
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --release --locked --skip-install
	$(BIN)/python scripts/benchmarks/end_to_end.py --input sample --compare-ids

.PHONY: wheel
wheel: .venv/.installed ## Build an abi3 wheel into dist/
	rm -rf dist
	$(BIN)/maturin build --release --locked --out dist

.PHONY: constraints
constraints: ## Update constraints.txt
	$(PYTHON) -m venv .venv-new
	.venv-new/bin/python -m pip install --quiet --upgrade pip
	PIP_CONSTRAINT= .venv-new/bin/python -m pip install --quiet '.[train,dev]'
	(head -n 1 constraints.txt; .venv-new/bin/python -m pip freeze --exclude zephyr-fast) > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-new
