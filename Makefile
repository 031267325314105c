# Each target sets up by itself what it needs: virtual environments and node modules below this folder.
PYTHON ?= python3
OCTOPRINTS := 1.11.8 2.0.0rc7
BIN := .venv/bin

# Tests of real processes wait more than they work.
WORKERS ?= 4

.PHONY: demo test soak lint bench docs translations screenshots test-pythons clean

demo: .venv/.bridge
	@$(BIN)/mesbridge demo || [ $$? -eq 130 ]

test: .venv/.dev tests/e2e/node_modules/.ready $(OCTOPRINTS:%=.octoprint/%/.ready)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --no-loadscope-reorder

# 20 machines print 200 jobs while bridge, MES, network, disk and clock fail; the report is in build/soak-report.txt.
soak: .venv/.dev
	$(BIN)/python -m tests.e2e.faults

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32

bench: .venv/.dev benchmarks/peers/node_modules/.ready
	$(BIN)/python -m benchmarks

# docs/address-space.md from the running server, docs/configuration.md and docs/metrics.md from the code; says what has
# no text yet.
docs: .venv/.dev
	$(BIN)/python -m tests.docs

# The plugin's tests in every Python from 3.9 to 3.13 that this machine has.
test-pythons: .venv/.dev
	$(BIN)/python -m tests.pythons

# The pictures of the settings tab and of the status page in docs/images; needs chromium.
screenshots: .venv/.dev $(OCTOPRINTS:%=.octoprint/%/.ready)
	$(BIN)/python -m tests.e2e.screenshots

# Extracts, updates, compiles and bundles; fails while a text is not translated, and says which.
translations: .venv/.dev
	$(BIN)/python -m translations.catalogues

clean:
	rm -rf .venv .octoprint .pythons tests/e2e/node_modules benchmarks/peers/node_modules build *.egg-info

.venv/.bridge: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; give one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[bridge]'
	@touch $@

.venv/.dev: .venv/.bridge
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

.octoprint/%/.ready: | .venv/.bridge
	$(BIN)/mesbridge demo --octoprint $* --only-prepare
	@touch $@

benchmarks/peers/node_modules/.ready: benchmarks/peers/package-lock.json
	npm ci --prefix benchmarks/peers --no-audit --no-fund --loglevel=error
	@touch $@

tests/e2e/node_modules/.ready: tests/e2e/package-lock.json
	@if command -v npm >/dev/null; then \
	    npm ci --prefix tests/e2e --no-audit --no-fund --loglevel=error && touch $@; \
	else \
	    echo "npm is missing: tests that need a second OPC UA client are skipped (and fail where CI is set)"; \
	fi
