# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test check docs docs-serve figures notebooks test-slow test-codegen golden bench bench-mapper bench-curve bench-product peers agreement accuracy hierarchy limits curves hwc-bandwidth hwc-busy test-hwc bench-cpu cpu-accesses bench-relaxed bench-batch resnet18-codesign experiments release clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/tilewright: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.tests-installed: pyproject.toml $(BIN)/tilewright
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,docs]'
	@touch $@

demo: $(BIN)/tilewright ## install, and map a real ONNX network onto a chip
	$(BIN)/tilewright map "$$($(BIN)/python examples/find_resnet50.py)" eyeriss

check: $(VENV)/.tests-installed ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

docs: $(VENV)/.tests-installed ## the documentation as a site: build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.tests-installed ## the same, served while you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

figures: $(BIN)/tilewright ## draw the figures of docs/concepts anew
	$(BIN)/python -m experiments.concept_figures

notebooks: $(VENV)/.tests-installed ## run docs/notebooks and keep what they print; read the difference
	$(BIN)/python -m pytest tests/test_notebooks.py --update-golden

test: check docs ## every check, the site, then every test that is not slow
	$(BIN)/python -m pytest -n auto --durations=25

test-slow: $(VENV)/.tests-installed ## the tests that take long, too
	$(BIN)/python -m pytest -n auto --slow

test-codegen: $(VENV)/.tests-installed ## all tests of C programs: 400 random layers, 100 under sanitizers, nine real networks
	$(BIN)/python -m pytest -n auto --slow tests/test_codegen.py tests/test_codegen_model.py tests/test_codegen_network.py

golden: $(VENV)/.tests-installed ## write the golden files anew; read the difference before committing
	$(BIN)/python -m pytest -n auto --update-golden

bench-mapper: $(BIN)/tilewright ## how fast the mapper proves: benchmarks/MAPPER.md
	$(BIN)/python benchmarks/mapper.py

bench-curve: $(BIN)/tilewright ## how fast traffic curves are found: benchmarks/CURVE.md
	$(BIN)/python benchmarks/curve.py

bench-cpu: $(BIN)/tilewright ## our C programs against oneDNN, onnxruntime, OpenBLAS: benchmarks/CPU.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[compile]' onednn onednn-devel onnxruntime scipy-openblas64 mkl torch
	$(BIN)/python benchmarks/cpu.py

cpu-accesses: $(BIN)/tilewright ## lines our C programs and OpenBLAS fetch: docs/cpu-accesses.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[compile]' scipy-openblas64 mkl
	$(BIN)/python -m experiments.cpu

bench-relaxed: $(BIN)/tilewright ## how fast it proves uneven and imperfect ones: benchmarks/RELAXED.md
	$(BIN)/python benchmarks/relaxed.py

resnet18-codesign: $(BIN)/tilewright ## codesign beside rivals: docs/resnet18-codesign.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[codesign,rivals]'
	$(BIN)/python experiments/codesign_fronts.py --seconds 10
	$(BIN)/python experiments/codesign_small.py --seconds 3
	$(BIN)/python experiments/codesign_ten.py
	$(BIN)/python experiments/codesign_networks.py
	$(BIN)/python experiments/resnet18_codesign.py --seconds 12 --finish 3

bench-batch: $(VENV)/.tests-installed ## how fast batches are evaluated: benchmarks/BATCH.md
	$(BIN)/python benchmarks/batch.py

bench: $(BIN)/tilewright ## measure what the project promises of speed and size: benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

bench-product: $(VENV)/.tests-installed ## start, cache, reports, explorer: benchmarks/PRODUCT.md
	$(BIN)/python -m benchmarks.product

peers: $(BIN)/tilewright ## compare with other mappers' runs: benchmarks/PEERS.md
	$(BIN)/python -m benchmarks.peers $(if $(ZIGZAG),--zigzag $(ZIGZAG)) $(if $(ACCELFORGE),--accelforge $(ACCELFORGE))

agreement: $(BIN)/tilewright ## the report on Timeloop's recorded runs: docs/timeloop-agreement.md
	$(BIN)/python experiments/timeloop_agreement.py

accuracy: $(BIN)/tilewright ## how far older bandwidth models are from what moves: docs/model-accuracy.md
	$(BIN)/python experiments/model_accuracy.py

hierarchy: $(BIN)/tilewright ## memories designed in DianNao's place: docs/hierarchy2016.md
	$(BIN)/python experiments/hierarchy2016.py

limits: $(BIN)/tilewright ## least traffic over what no schedule can do without: docs/limit-ratio.md
	$(BIN)/python experiments/limit_ratio.py

curves: $(BIN)/tilewright ## least DRAM traffic against buffer size: docs/traffic-curves.md
	$(BIN)/python experiments/traffic_curves.py

hwc-bandwidth: $(VENV)/.tests-installed ## the block's bandwidth, measured in Verilator: docs/hwc-bandwidth.md
	$(BIN)/python -m experiments.hwc_bandwidth

hwc-busy: $(VENV)/.tests-installed ## how busy its multipliers are, measured in Verilator: docs/hwc-busy.md
	$(BIN)/python -m experiments.hwc_busy

test-hwc: $(VENV)/.tests-installed ## the long tests of the convolution block; they need Verilator
	$(BIN)/python -m pytest -n auto --slow tests/test_hwc.py tests/test_block_traffic.py

EXPERIMENTS := accuracy agreement limits curves hierarchy hwc-bandwidth hwc-busy cpu-accesses resnet18-codesign
BENCHMARKS := bench bench-mapper bench-relaxed bench-curve bench-batch bench-cpu bench-product peers

experiments: $(EXPERIMENTS:%=build/ran/%) $(BENCHMARKS:%=build/ran/%) ## all of them, hours; goes on where it was stopped: docs/results.md

build/ran/%: # what ran is not run again until `rm -r build/ran`
	$(MAKE) $*
	@mkdir -p $(@D) && touch $@

release: ## build wheel and sdist; install and try them on every Python found: release/INSTALLS.md
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip install --quiet --disable-pip-version-check build uv
	TILEWRIGHT_NO_CACHE=1 build/release/bin/python release/check.py

clean: ## remove the environment and everything that was made
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis
