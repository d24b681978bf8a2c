# Everything runs in .venv, which is made when it is missing or when setup.py or constraints.txt change.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

# make demo CELEBA=/data/CelebA [COUNT=500]: the demo on your own photos
CELEBA ?=
COUNT ?=
DEMO := demo
DEMO_CELEBA := $(if $(CELEBA),$(CELEBA),$(DEMO)/CelebA)
DEMO_CHOICE := $(if $(COUNT),--selection score --count $(COUNT),--selection all)

.PHONY: install demo test check bench clean

install: $(INSTALLED)

$(INSTALLED): setup.py constraints.txt tools/install.sh
	PYTHON="$(PYTHON)" sh tools/install.sh $(VENV)
	@touch $@

demo: install
	$(if $(CELEBA),,$(BIN)/python -m datatools.sample $(DEMO)/CelebA)
	$(BIN)/luigi --module pipelines BuildCelebAHQ --local-scheduler \
	    --celeba-dir "$(DEMO_CELEBA)" --output-dir "$(DEMO)/out" $(DEMO_CHOICE)
	@sh tools/after_demo.sh "$(DEMO)/out"

test: install
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Needs photos with landmarks: make bench CELEBA=/data/CelebA
bench: install
	@test -n "$(CELEBA)" || { echo "name a CelebA tree: make bench CELEBA=/data/CelebA"; exit 2; }
	@for script in benchmarks/*.py; do \
	    echo "# $$script"; $(BIN)/python $$script --celeba-dir "$(CELEBA)" || exit 1; done

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
