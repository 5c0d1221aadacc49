# `make demo`, `make test`, `make check`, `make dev`: each prepares .venv by itself from a bare python3 (3.11 or later).

PYTHON_NAMES = python3.13 python3.12 python3.11 python3
PY = .venv/bin/python
PIP = $(PY) -m pip -qq --disable-pip-version-check
JOBS ?= 2
READY = .venv/.ready

.PHONY: demo test check dev lock clean
.NOTPARALLEL:

# FOLDER=~/Documents shows your own documents; without it a sample is used.
demo: $(READY)
	@$(PY) -m workstation_pipelines.demo $(if $(FOLDER),"$(FOLDER)")

dev: $(READY)
	@exec $(PY) -m workstation_pipelines.cli dev

test: check
	@echo "tests with PostgreSQL and Dagster"
	@$(PY) -m pytest -q -n $(JOBS) --dist loadscope --ignore tests/pure

check: $(READY)
	@echo "ruff"
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet .
	@echo "mypy"
	@$(PY) -m mypy --no-error-summary
	@echo "import contracts"
	@$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' > .venv/imports.txt \
	  || { cat .venv/imports.txt; exit 1; }
	@echo "tests/pure"
	@$(PY) -m pytest -q tests/pure

# Writes constraints.txt: the exact versions of a fresh installation. Run with the oldest supported Python (3.11), whose
# dependencies are a superset of those of later ones, and commit the result.
lock:
	@echo "resolving in build/lock"
	@rm -rf build/lock && python="$$($(FIND_PYTHON))" && "$$python" -m venv build/lock
	@build/lock/bin/python -m pip -qq --disable-pip-version-check install --upgrade '.[dev]'
	@build/lock/bin/python -m pip --disable-pip-version-check freeze --exclude workstation-pipelines > build/lock/constraints.txt
	@! grep -nE '@|file:|://|^-' build/lock/constraints.txt || { echo "not a plain version, see above" >&2; exit 1; }
	@{ echo "# Exact versions for 'pip install -c'; made by 'make lock'."; cat build/lock/constraints.txt; } > constraints.txt
	@rm -rf build/lock

clean:
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

define FIND_PYTHON
for name in $(PYTHON_NAMES); do \
  "$$name" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    && { command -v "$$name"; exit 0; }; \
done; \
echo "Python 3.11 or later with its venv module is needed (on Debian: apt install python3-venv)." >&2; exit 1
endef

$(READY): pyproject.toml constraints.txt
	@echo "preparing .venv (a few minutes the first time)"
	@$(PY) -m pip --version > /dev/null 2>&1 || \
	  { python="$$($(FIND_PYTHON))" && rm -rf .venv && "$$python" -m venv .venv; }
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@
