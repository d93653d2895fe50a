# make sweep             install what is needed, run the learning-rate study on the embedded models
# make sweep ARGS="..."  the same with more words for the command line, e.g. ARGS="models=hub"
# make smoke             two cells in under a minute: does everything work here?
# make test              lint, format, types, import rules, tests (minutes, CPU)
# make test-all          the same with the slow tests, and those for a GPU where there is one
# make soak              kill a small sweep at 50 random instants, and see that nothing differs (half an hour)
# make screenshots       MLflow's UI of sweeps/lr_grid as PNGs in sweeps/, with the system's Chromium
# make services          PostgreSQL and an MLflow server on 127.0.0.1, until Ctrl-C; says how to use them
# make clean             caches and builds; never sweeps/ or mlruns/

PYTHON := .venv/bin/python
STAMP := .venv/installed
DEV_STAMP := .venv/installed-dev
ARGS :=

# uv where it is there, else the pip of the environment
INSTALL = if uv --version >/dev/null 2>&1; then set -- uv pip install --python $(PYTHON); \
	else set -- $(PYTHON) -m pip install --disable-pip-version-check; fi; "$$@"

# where the environment forbids bytecode, every start would compile torch and diffusers anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: sweep smoke install test test-all soak screenshots services checks clean

sweep: $(STAMP)
	$(PYTHON) -m charsweep +sweep=lr_grid $(ARGS)

smoke: $(STAMP)
	$(PYTHON) -m charsweep +sweep=smoke $(ARGS)

install: $(STAMP)

test: checks
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-all: checks
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "" $(ARGS)

soak: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(PYTHON) tests/faults/soak.py $(ARGS)

screenshots: $(DEV_STAMP)
	PYTHONPATH=tests $(PYTHON) -m helpers.browser --name lr_grid --screenshots sweeps $(ARGS)

services: $(DEV_STAMP)
	PYTHONPATH=tests $(PYTHON) -m helpers.services $(ARGS)

checks: $(DEV_STAMP)
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -c "from importlinter.cli import lint_imports_command as main; main()"

$(DEV_STAMP): requirements-dev.txt $(STAMP)
	@$(INSTALL) -r requirements-dev.txt
	@touch $@

$(STAMP): requirements.txt pyproject.toml | $(PYTHON)
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --no-deps -e .
	@touch $@

$(PYTHON):
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
		version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
			echo "Python $$version -> .venv"; \
			exec "$$python" -m venv .venv; \
		fi; \
		if uv --version >/dev/null 2>&1; then exec uv venv --allow-existing --python "$$python" .venv; fi; \
		echo "Python $$version is here, but its venv module is not. Install it, then run make again:" >&2; \
		echo "    Debian, Ubuntu: sudo apt install python$$version-venv" >&2; \
		exit 1; \
	done; \
	echo "charsweep needs Python 3.11 or later; python3 is $$(python3 --version 2>&1 || true)." >&2; \
	echo "    Debian, Ubuntu: sudo apt install python3 python3-venv" >&2; \
	echo "    macOS:          brew install python" >&2; \
	exit 1

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find charsweep tests -name __pycache__ -type d -prune -exec rm -rf {} +
