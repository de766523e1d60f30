# Everything runs in .venv; nothing but Python 3.11 or newer and make is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install test docs wheel test-wheel fuzz sanitize sanitize-threads cross-aarch64 demo lint results clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

lint: install
	$(BIN)/ruff check src tests examples benchmarks docs
	$(BIN)/mypy
	$(BIN)/mypy -p benchmarks
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(NATIVE_FILES)
	if command -v c++ >/dev/null; then printf '%s\n' $(TIDY_FILES) | xargs -P 2 -I {} \
	    $(BIN)/clang-tidy --quiet {} -- -std=c++17 -Icsrc -Icsrc/include -DGAQ_HAS_X86; fi

# clang-tidy leaves out what is compiled for each instruction set: templates in which it takes minutes.
NATIVE_FILES := $(wildcard csrc/*.h csrc/*/*.h csrc/*/*.c csrc/*/*.cpp csrc/models/*/*.h csrc/models/*/*.cpp)
TIDY_FILES := $(filter-out %/kernels.cpp %/checks.cpp csrc/tests/%,$(filter %.cpp,$(NATIVE_FILES)))

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# The documentation site, in build/site: it is made from the program and the tutorials, which run. Warnings are errors.
docs: install
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/python -m mkdocs build --strict

# A wheel for others, in dist/; on Linux it says how old a system may be.
wheel: install
	rm -rf build/wheel dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	if test "$$(uname)" = Linux; then PATH="$(BIN):$$PATH" auditwheel repair --wheel-dir dist build/wheel/*.whl; \
	else mv build/wheel dist; fi

# Installs it without torch and without a compiler, for each Python found here, and the sources without a compiler.
test-wheel: wheel
	$(BIN)/python -m tests.install dist/*.whl

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

# The native tests of another processor, emulated; needs cmake and Debian's g++-aarch64-linux-gnu and qemu-user.
EMULATED := qemu-aarch64 -L /usr/aarch64-linux-gnu
cross-aarch64: install
	cmake -S csrc -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/csrc/cmake/aarch64.cmake -DGAQ_TESTS=ON
	cmake --build build/aarch64 --parallel 2
	$(BIN)/python tests/backends/native/write_blobs.py build/aarch64
	for test in build/aarch64/test_*; do $(EMULATED) $$test || exit 1; done
	for blob in build/aarch64/*.blob; do $(EMULATED) build/aarch64/stress $$blob || exit 1; done

demo: install
	$(BIN)/gaq demo --out demo --overwrite

# Data sets: in the folder that GAQ_DATA names, else beside the clone, else in the download cache.
results: install
	$(if $(wildcard ../shared/data),GAQ_DATA="$${GAQ_DATA:-../shared/data}") $(BIN)/python -m benchmarks.results $(RESULTS)

clean:
	rm -rf .venv demo runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
