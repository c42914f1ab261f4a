# `make` lists the targets. Each sets up what it needs; nothing outside this folder is changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := requirements/constraints.txt
INSTALLED := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-processors test-avx2 lint bench clean

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

install: $(INSTALLED)  ## a virtual environment in .venv with everything the tests need

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ $(PYTHON) --version; echo "crp-atlas needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	# each file is compiled when it is first imported: most of them never are
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile -c $(CONSTRAINTS) -e '.[test]'
	@touch $@

demo: $(INSTALLED)  ## mine the built-in data set and write its atlas
	$(BIN)/crp demo

test: $(INSTALLED)  ## every test but the slow ones; TESTS=tests/attribution for some
	$(BIN)/python -m pytest -q $(TESTS)

test-all: $(INSTALLED) test-processors  ## the slow tests too (kill runs, many seeds), and the numbers on other processors
	$(BIN)/python -m pytest -q -m ''

# Rounding depends on the instructions of the processor and on the number of threads. oneDNN (convolutions), MKL (matrix
# products) and PyTorch's own loops can each be told to use fewer instructions than there are.
NUMBERS := tests/attribution tests/crp/explanations tests/crp/graphs tests/crp/library tests/crp/mining tests/legacy \
	tests/test_real_networks.py
AVX2 := ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2
OLD := ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 ATEN_CPU_CAPABILITY=default

test-processors: $(INSTALLED)  ## the tests of numbers, computed as other processors do
	OMP_NUM_THREADS=1 $(AVX2) $(BIN)/python -m pytest -q $(NUMBERS)
	OMP_NUM_THREADS=2 $(AVX2) $(BIN)/python -m pytest -q $(NUMBERS)
	OMP_NUM_THREADS=1 $(OLD) $(BIN)/python -m pytest -q $(NUMBERS)
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -q $(NUMBERS)

# In float64 the tolerances hold on any processor. So the quick check has the files that name float32, or no other,
# but not those about names, shapes and memory, nor the golden numbers, which are compared in float64.
SINGLE = $(shell cd tests; ALL="attribution crp/explanations crp/graphs crp/mining --include=test_*.py --exclude-dir=durable"; \
	(grep -rl float32 $$ALL; grep -rLE 'float64|double' $$ALL) | \
	grep -vE 'test_(layer_choice|layers|receptive_fields|outputs|named_starts|memory|estimation).py')
DOUBLE := test_ours_gives_what_zennit_crp_gave

test-avx2: $(INSTALLED)  ## those of them in float32, as a processor with AVX2 and two threads
	OMP_NUM_THREADS=2 $(AVX2) $(BIN)/python -m pytest -q -k 'not $(DOUBLE)' $(addprefix tests/,$(sort $(SINGLE)))

lint: $(INSTALLED)  ## ruff
	$(BIN)/ruff check .

bench:  ## speed and memory compared with zennit-crp; QUICK=1 for a few minutes, BENCH_ARGS for options
	$(PYTHON) -m benchmarks $(if $(QUICK),--quick) $(BENCH_ARGS)

clean:  ## remove the environments, caches and build folders
	rm -rf $(VENV) .bench build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: tutorials gallery
tutorials: $(INSTALLED)  ## run the notebooks and write them with their pictures to docs/tutorials
	$(BIN)/python tutorials/render.py

gallery: $(INSTALLED)  ## make the pictures of docs/gallery.md and README.md (needs a Chromium)
	$(BIN)/python -m tutorials.gallery
