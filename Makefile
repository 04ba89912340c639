# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test check test-slow golden bench bench-batch bench-mapper peers agreement accuracy hierarchy clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/tilewright: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.tests-installed: pyproject.toml $(BIN)/tilewright
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

demo: $(BIN)/tilewright ## install, and map a real ONNX network onto a chip
	$(BIN)/tilewright map "$$($(BIN)/python examples/find_resnet50.py)" eyeriss

check: $(VENV)/.tests-installed ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

test: check ## every check, then every test that is not slow
	$(BIN)/python -m pytest -n auto

test-slow: $(VENV)/.tests-installed ## the tests that take long, too
	$(BIN)/python -m pytest -n auto --slow

golden: $(VENV)/.tests-installed ## write the golden files anew; read the difference before committing
	$(BIN)/python -m pytest -n auto --update-golden

bench-mapper: $(BIN)/tilewright ## how fast the mapper proves: benchmarks/MAPPER.md
	$(BIN)/python benchmarks/mapper.py

bench-batch: $(VENV)/.tests-installed ## how fast batches are evaluated: benchmarks/BATCH.md
	$(BIN)/python benchmarks/batch.py

bench: $(BIN)/tilewright ## measure what the project promises, on this machine
	$(BIN)/python benchmarks/run.py

peers: $(BIN)/tilewright ## compare with other mappers' runs: benchmarks/PEERS.md
	$(BIN)/python -m benchmarks.peers $(if $(ZIGZAG),--zigzag $(ZIGZAG)) $(if $(ACCELFORGE),--accelforge $(ACCELFORGE))

agreement: $(BIN)/tilewright ## the report on Timeloop's recorded runs: docs/timeloop-agreement.md
	$(BIN)/python experiments/timeloop_agreement.py

accuracy: $(BIN)/tilewright ## how far older bandwidth models are from what moves: docs/model-accuracy.md
	$(BIN)/python experiments/model_accuracy.py

hierarchy: $(BIN)/tilewright ## memories designed in DianNao's place: docs/hierarchy2016.md
	$(BIN)/python experiments/hierarchy2016.py

clean: ## remove the environment and everything that was made
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis
