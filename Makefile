# Everything runs in .venv, which is made when it is missing or when pyproject.toml or constraints.txt change.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

# make demo CELEBA=/data/CelebA [COUNT=500]: the demo on your own photos
CELEBA ?=
COUNT ?=
DEMO := demo

.PHONY: install demo test quick faults check bench clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py constraints.txt tools/install.sh
	PYTHON="$(PYTHON)" sh tools/install.sh $(VENV)
	@touch $@

demo: install
	@sh tools/demo.sh $(BIN) $(DEMO) "$(CELEBA)" "$(COUNT)"

# Two processes: many tests wait for processes of their own
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: install
	$(PYTEST) $(PYTEST_ARGS)

# Under 90 seconds on two idle cores: all tests but those that tests/conftest.py lists as slow
quick: install
	$(PYTEST) -m quick $(PYTEST_ARGS)

# Every fault of docs/reliability.md, many times: about half an hour
faults: install
	FAULTS=full $(PYTEST) -m faults $(PYTEST_ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Under 20 minutes: writes docs/results/benchmarks.md. With CELEBA=/data/CelebA faces are made of its photos
bench: install
	$(BIN)/python -m benchmarks --out docs/results/benchmarks.md $(if $(CELEBA),--celeba-dir "$(CELEBA)")

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
