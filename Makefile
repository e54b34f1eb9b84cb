# Nightjar. `make help` says what there is.
PYTHON ?= python3
VENV := .venv
DEV := .venv-dev
BIN := $(DEV)/bin
MODEL := broker/models/default.onnx
RUN := runs/default
# One thread each: more of them fight for the processors. One worker more than there are of these, as some wait for
# Kafka. A file's tests stay together, they share what is costly; in their order the small files come last.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
CODE := broker encoder schemas tests benchmarks examples tools

.DEFAULT_GOAL := help
.PHONY: help demo test pytest lint types imports unit integration chaos fuzz fuzz-coverage bench bench-compare model model-gpu audit schemas lock wheels clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(VENV)/.ready: requirements/plot.txt pyproject.toml setup.py $(wildcard broker/compiled/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, $$($(PYTHON) -V) was found: call make PYTHON=python3.12 …"; exit 2; }
	@echo "making $(VENV) (the broker; no torch) …"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/plot.txt
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV)/.ready: requirements/dev.txt pyproject.toml setup.py $(wildcard broker/compiled/*)
	@echo "making $(DEV) (development, with torch: about 3 GB to download) …"
	@$(PYTHON) -m venv $(DEV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.ready ## Simulated alerts through an embedded Kafka and the real consumer (about a minute)
	@$(VENV)/bin/broker-demo

test: $(DEV)/.ready lint imports ## Everything: lint, types, import contracts, unit and integration tests
	@$(MAKE) --no-print-directory --jobs 2 types pytest

pytest: $(DEV)/.ready
	$(PYTEST)

lint: $(DEV)/.ready ## ruff
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: $(DEV)/.ready ## mypy, strict
	$(BIN)/mypy

imports: $(DEV)/.ready ## The one direction of imports
	$(BIN)/lint-imports

unit: $(DEV)/.ready ## Tests that need no Kafka server
	$(PYTEST) tests/unit tests/fuzz

integration: $(DEV)/.ready ## Tests on a real Apache Kafka
	$(PYTEST) tests/integration

chaos: $(DEV)/.ready ## Consumers, cluster, network and registry are hurt at full length (hours); the account is build/chaos.json
	mkdir -p build
	NIGHTJAR_CHAOS=full NIGHTJAR_CHAOS_REPORT=build/chaos.json $(BIN)/python -m pytest -v --timeout 7200 tests/integration/test_chaos*.py tests/integration/test_slow_model.py tests/unit/consumer/test_memory.py

fuzz: $(DEV)/.ready ## 100,000 mutated packets through the pipeline; PACKETS=DIR adds real ones (about an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --count 100000 --seed 1 $(if $(PACKETS),--packets $(PACKETS))

fuzz-coverage: $(DEV)/.ready ## The same guided by coverage, until stopped (x86-64 Linux)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	mkdir -p runs/corpus && OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.atheris_packets runs/corpus -timeout=5 -rss_limit_mb=2048

bench: $(DEV)/.ready ## The hot path against the common path, side by side; numbers in build/bench.json
	mkdir -p build
	$(BIN)/python benchmarks/hot_path.py --json build/bench.json $(BENCH)

bench-compare: $(DEV)/.ready ## The hot path of BASE=commit and of now in turns: which stage moved
	@test -n "$(BASE)" || { echo "say what to compare with: make bench-compare BASE=HEAD~1"; exit 2; }
	mkdir -p build
	$(BIN)/python benchmarks/compare.py --base $(BASE) --json build/bench-compare.json $(BENCH)

model: $(DEV)/.ready ## Simulate, pretrain, fit the heads and export the packaged model (70 to 90 minutes on two cores)
	$(BIN)/encoder simulate --output $(RUN)/shards --count 24000 --visits 2
	$(BIN)/encoder pretrain --data $(RUN)/shards --output $(RUN)/pretrain --config encoder/recipes/alerts.json
	$(BIN)/encoder fit-heads --data $(RUN)/shards --checkpoint $(RUN)/pretrain/last.pt --output $(RUN)/heads
	$(BIN)/encoder export --heads $(RUN)/heads --output $(MODEL)

model-gpu: $(DEV)/.ready ## The same on a node with GPUs: 200,000 objects, 100 epochs, every GPU one process
	$(BIN)/encoder simulate --output $(RUN)/shards --count 200000 --visits 2
	$(BIN)/torchrun --nproc-per-node gpu -m encoder.cli pretrain --data $(RUN)/shards --output $(RUN)/pretrain \
	  --config encoder/recipes/alerts-gpu.json
	$(BIN)/encoder fit-heads --data $(RUN)/shards --checkpoint $(RUN)/pretrain/last.pt --output $(RUN)/heads
	$(BIN)/encoder export --heads $(RUN)/heads --output $(MODEL)

audit: ## Look the pins up in PyPI's list of vulnerabilities; says so where that does not answer
	@$(PYTHON) tools/audit.py

schemas: $(DEV)/.ready ## Derive the bundled schemas again from the published package
	$(BIN)/python tools/derive_schemas.py

lock: ## Pin the requirements again (needs uv)
	for name in dev train fit plot broker audit fuzz; do \
	  uv pip compile --quiet --upgrade --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	    --universal --python-version 3.11 requirements/$$name.in -o requirements/$$name.txt \
	    $$([ $$name = dev ] || echo -c requirements/dev.txt); done

wheels: $(DEV)/.ready ## Resolve the pinned wheels for every declared Python
	for version in 3.11 3.12 3.13; do for name in broker plot fit train; do \
	  $(BIN)/pip install --quiet --dry-run --no-deps --ignore-installed --only-binary=:all: --python-version $$version \
	    --target build/wheels -r requirements/$$name.txt && echo "$$version $$name: every wheel is there"; done; done

clean: ## Remove what make has made
	rm -rf $(VENV) $(DEV) build demo-output
