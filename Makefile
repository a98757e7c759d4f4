# Every target works from a fresh clone: it makes its own virtual environment in .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
OUT ?= out
BENCHES := c_runtime c_threads engines mapping simulator onnx_models

.DEFAULT_GOAL := help
.PHONY: help demo test check format sweep bench docs constraints clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

demo: .venv/demo  ## compile the trained MNIST example, build its C, prove both equal, report the energy
	$(BIN)/ttfsc compile 'examples/mnist/network.py:exact_relu' --weights examples/mnist/exact_relu.safetensors \
		--inputs examples/mnist/digits.npz -o $(OUT)/mnist --target c,noc,report --overwrite
	$(MAKE) --no-print-directory -C $(OUT)/mnist/c check

test: .venv/dev  ## run all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: .venv/dev  ## what CI checks besides the tests: style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv/dev  ## rewrite sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sweep: .venv/dev  ## thousands of random layers through the generated C, several compilers, sanitizers
	PYTHONPATH=. $(BIN)/python tests/c/sweep.py $(ARGS)

bench: .venv/dev  ## measure speed, side by side in one run
	@for part in $(BENCHES); do echo "== $$part"; $(BIN)/python -m bench.$$part || exit 1; done

docs: .venv/dev  ## rewrite the generated tables in docs/ and run the documents' examples
	$(BIN)/python docs/generate.py

constraints:  ## pin what a fresh environment installs today
	rm -rf .venv-pin && $(PYTHON) -m venv .venv-pin
	.venv-pin/bin/python -m pip install --quiet '.[torch,dev]'
	@{ head -1 constraints.txt; .venv-pin/bin/python -m pip freeze | grep -v '^ttfsc' | sed 's/+cpu//'; } > .venv-pin/new
	mv .venv-pin/new constraints.txt && rm -rf .venv-pin

clean:  ## remove everything that was made here
	rm -rf .venv .venv-pin $(OUT) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

.venv/demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable '.[torch]'
	@touch $@

.venv/dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable '.[torch,dev]'
	@touch $@ .venv/demo
