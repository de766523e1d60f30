# Everything runs in .venv; nothing but Python 3.11 or newer and make is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install test docs fuzz sanitize sanitize-threads demo lint results clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,docs]"
	touch $@

lint: install
	$(BIN)/ruff check src tests examples benchmarks docs
	$(BIN)/mypy
	$(BIN)/mypy -p benchmarks
	$(BIN)/lint-imports

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# The documentation site, in build/site: it is made from the program and the tutorials, which run. Warnings are errors.
docs: install
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/python -m mkdocs build --strict

# Seeded fuzzers of what comes from outside; CASES=10000 SEED=1 tries more, and others.
CASES ?= 300
SEED ?= 0
fuzz: install
	$(BIN)/python -m tests.fuzz models --cases $(CASES) --seed $(SEED)
	$(BIN)/python -m tests.fuzz blobs --cases $(CASES) --seed $(SEED)
	$(BIN)/python -m tests.fuzz inputs --cases $(CASES) --seed $(SEED)

# The engine's native tests and blobs under AddressSanitizer and UBSan, and its threads under ThreadSanitizer; need cmake and a
# C++ compiler.
sanitize: install
	cmake -S csrc -B build/sanitize -DGAQ_SANITIZE=ON
	cmake --build build/sanitize --parallel
	$(BIN)/python tests/backends/native/write_blobs.py build/sanitize
	for test in build/sanitize/test_*; do $$test || exit 1; done
	build/sanitize/stress build/sanitize/*.blob
	$(BIN)/python -m tests.fuzz blobs --sanitized --cases $(CASES) --seed $(SEED)

sanitize-threads: install
	cmake -S csrc -B build/threads -DGAQ_TSAN=ON
	cmake --build build/threads --parallel --target stress
	$(BIN)/python tests/backends/native/write_blobs.py build/threads
	build/threads/stress build/threads/robust-w4a8.blob

demo: install
	$(BIN)/gaq demo --out demo --overwrite

# Data sets: in the folder that GAQ_DATA names, else beside the clone, else in the download cache.
results: install
	$(if $(wildcard ../shared/data),GAQ_DATA="$${GAQ_DATA:-../shared/data}") $(BIN)/python -m benchmarks.results $(RESULTS)

clean:
	rm -rf .venv demo runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
