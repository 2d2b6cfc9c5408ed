# Every target sets up what it needs: on a fresh machine `make run` and `make test` are all there is to type.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Where a CPU build of PyTorch is wanted and pip is not set up for one:
# make setup PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=

PEERS := .venv-peers

.PHONY: setup run test check format bench bench-speed docs lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

run: $(READY)
	$(BIN)/sounding fit @digits
	$(BIN)/sounding fit @breast-cancer
	@echo "Open the two reports named above in a browser."

test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: $(READY)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

bench: $(READY)
	$(BIN)/python -m benchmarks.defaults

# Other frameworks beside ours, in an environment of their own; takes hours, best on a machine with nothing else to do.
bench-speed: $(READY) $(PEERS)/.ready
	$(BIN)/python -m benchmarks.speed --peers-python $(PEERS)/bin/python --write

$(PEERS)/.ready: benchmarks/requirements-peers.lock
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet $(PIP_ARGS) -r benchmarks/requirements-peers.lock
	touch $(PEERS)/.ready

docs: $(READY)
	$(BIN)/python -m pytest docs README.md

lock: $(READY)
	$(BIN)/python -m pip freeze --exclude sounding --exclude-editable

clean:
	rm -rf $(VENV) $(PEERS) runs build src/*.egg-info
