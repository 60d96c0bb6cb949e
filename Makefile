# `make run` and `make test` set everything up themselves; `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help run sound results test slow reliability lint types benchmark benchmark-peers install clean

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS := .venv-peers
PEERS_INSTALLED := $(PEERS)/.installed
PEERS_INDEX ?= https://download.pytorch.org/whl/cpu
WORKERS ?= 2

CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10 python
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in $(CANDIDATES); do \
	if $$name -c '$(SUPPORTED)' 2>/dev/null; then echo $$name; break; fi; done)

help:
	@echo "make run        train two models on digits, compare them, draw, export (minutes)"
	@echo "make sound RECORDINGS=DIR  train on a folder of wav or flac files, listen to samples, export"
	@echo "make results    tables and pictures of results/ from what its runs wrote (seconds)"
	@echo "make test       the tests; WORKERS=n runs n processes"
	@echo "make slow       the tests that take minutes each"
	@echo "make reliability  trainings that are killed, stopped, damaged, spread: real processes"
	@echo "make lint       ruff: rules and formatting"
	@echo "make types      mypy --strict"
	@echo "make benchmark  speed and memory on this machine: training, generation, scoring, start-up"
	@echo "make benchmark-peers  the same beside PyTorch and JAX, which it installs into $(PEERS)"
	@echo "make install    only the virtual environment $(VENV)"
	@echo "make clean      removes it and all that tools left behind; keeps runs/"
	@echo "PYTHON=/path/to/python3 chooses the Python that $(VENV) is made with."

# Each command is shown as it runs: they are what a user gives too.
run: $(INSTALLED)
	$(BIN)/python -m zforcing_tf.train --flagfile=flags/digits_rnn.flags --run_dir=runs/digits_rnn
	$(BIN)/python -m zforcing_tf.train --flagfile=flags/digits_zforcing_aux.flags --run_dir=runs/digits_zforcing_aux
	@echo; echo "The two side by side:"
	$(BIN)/python -m zforcing_tf.evaluate --run_dir=runs/digits_rnn,runs/digits_zforcing_aux
	$(BIN)/python -m zforcing_tf.generate --run_dir=runs/digits_zforcing_aux
	rm -rf runs/digits_zforcing_aux/export
	$(BIN)/python -m export.saved_model --run_dir=runs/digits_zforcing_aux --export_dir=runs/digits_zforcing_aux/export
	@echo; echo "With TensorFlow alone:"
	$(BIN)/python examples/use_saved_model.py runs/digits_zforcing_aux/export/*
	@echo
	@echo "Look at     runs/digits_zforcing_aux/samples/samples.png and learning_curves.png"
	@echo "Curves      $(BIN)/tensorboard --logdir runs"
	@echo "Model       runs/digits_zforcing_aux/export/*  (SavedModel; BUILD.md says how to serve it)"
	@echo "Try next    $(BIN)/python -m zforcing_tf.train --flagfile=flags/digits_zforcing_kla_aux.flags --run_dir=runs/kla_aux"
	@echo "            flags/README.md lists the experiments; --help the flags"

# A folder of anybody's recordings, to samples and a SavedModel. Give FLAGS to change settings.
RUN ?= runs/sound
sound: _recordings $(INSTALLED)
	$(BIN)/python -m zforcing_tf.train --flagfile=flags/speech_zforcing_kla_aux.flags --manual_dir="$(RECORDINGS)" --run_dir="$(RUN)" $(FLAGS)
	$(BIN)/python -m zforcing_tf.generate --run_dir="$(RUN)"
	rm -rf "$(RUN)/export"
	$(BIN)/python -m export.saved_model --run_dir="$(RUN)" --export_dir="$(RUN)/export"
	@echo "Listen to   $(RUN)/samples/*.wav, look at $(RUN)/samples/samples.png"

_recordings:
	@if [ ! -e "$(RECORDINGS)" ]; then \
		echo "error: '$(RECORDINGS)' is not there; name the folder of your recordings:" \
			"make sound RECORDINGS=/path/to/folder" >&2; \
		exit 2; \
	fi

# results/ has no checkpoints and no data: what runs wrote of themselves, and what it comes to.
results: $(INSTALLED)
	@for family in results/*/; do \
		runs=$$(ls -d $${family}*/ | sed 's,/$$,,' | paste -sd, -); \
		$(BIN)/python -m zforcing_tf.compare --run_dir=$$runs --output_dir=$$family > /dev/null || exit 1; \
		echo $${family}comparison.md $${family}comparison.png; \
	done

.PHONY: _recordings
test: $(INSTALLED)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

slow: $(INSTALLED)
	@$(BIN)/python -m pytest -q -m slow

reliability: $(INSTALLED)
	@$(BIN)/python -m pytest -q -m reliability tests/reliability

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED)
	@$(BIN)/mypy

benchmark: $(INSTALLED)
	@$(BIN)/python benchmarks/run.py --repeats=3

benchmark-peers: $(INSTALLED) $(PEERS_INSTALLED)
	@$(BIN)/python benchmarks/run.py --peers --peers_python=$(PEERS)/bin/python

install: $(INSTALLED)

# The stamp is made last: an install that failed is tried again. Twice quiet: pip prints errors only.
$(INSTALLED): requirements.txt pyproject.toml
	@python="$(PYTHON)"; \
	if [ -z "$$python" ] || ! "$$python" -c '$(SUPPORTED)'; then \
		echo "error: Python 3.10, 3.11, 3.12 or 3.13 is needed, and $${python:-none of $(CANDIDATES)} is it;" \
			"install one, or name it: make PYTHON=/path/to/python3 ..." >&2; \
		exit 1; \
	fi; \
	echo "Installing into $(VENV); this takes a few minutes, once ..."; \
	rm -f $@; \
	"$$python" -m venv $(VENV) && \
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --use-pep517 \
		--requirement requirements.txt --editable '.[dev]' && \
	touch $@

# The extra alone, beside none of TensorFlow's own dependencies.
$(PEERS_INSTALLED): $(INSTALLED)
	@echo "Installing PyTorch and JAX into $(PEERS); this takes a few minutes, once ..."; \
	rm -f $@; \
	$(BIN)/python -m venv $(PEERS) && \
	$(BIN)/python benchmarks/peers/requirements.py | \
	$(PEERS)/bin/python -m pip install --quiet --quiet --disable-pip-version-check \
		--extra-index-url $(PEERS_INDEX) --requirement /dev/stdin && \
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
