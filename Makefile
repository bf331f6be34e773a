# Each target sets up what it needs in a virtual environment of its own (.venv) and then does its work.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# Extra arguments: make app ARGS="--share", make test ARGS="-k catalog"
ARGS ?=
# Tests that share a file share a process, and with it what they set up; make test WORKERS= for one process.
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder
# What README.md's front matter names.
SPACE_PYTHON ?= python3.12

comma := ,
space := $(subst ,, )

# Without the addresses of other people's pages, which change.
define SHORT_SBOM
import json, sys
bom = json.load(sys.stdin)
bom["metadata"].pop("tools", None)
for each in [bom["metadata"]["component"], *bom["components"]]:
    each.pop("externalReferences", None)
json.dump(bom, sys.stdout, indent=1, sort_keys=True)
endef
export SHORT_SBOM

.PHONY: app test trust nightly mutants space train bench lint coverage browser clean lock sbom audit package

## The app on http://127.0.0.1:7860, with the bundle that ships with the package.
app: $(VENV)/serving-installed
	$(RUN) app.py $(ARGS)

## All tests. Those that need a browser say so and are skipped where none is found; see `make browser`.
## Without those that train models: make test ARGS="-m 'not slow'"
test: $(VENV)/tests-installed
	$(RUN) -m pytest $(WORKERS) $(ARGS)

## Generated input, faults and kills in their full number (`make test` runs a slice of them); and ten times that.
trust: $(VENV)/tests-installed
	$(RUN) -m pytest -m trust --thorough 1 $(ARGS)

nightly: $(VENV)/tests-installed
	$(RUN) -m pytest -m trust --thorough 10 $(ARGS)

## Do the tests of a module notice a change in it? make mutants MODULE=rakuten_models/bundle/folder.py TESTS=tests/core/test_bundle_checks.py
mutants: $(VENV)/tests-installed
	@test -n "$(MODULE)" -a -n "$(TESTS)" || { echo 'error: say which module and which fast tests: make mutants MODULE=rakuten_models/bundle/folder.py TESTS=tests/core/test_bundle_checks.py' >&2; exit 2; }
	rm -rf build/mutants && mkdir -p build/mutants && cp -R rakuten_models tests pyproject.toml build/mutants
	printf 'only_mutate = ["%s"]\npytest_add_cli_args_test_selection = ["%s"]\n' $(MODULE) '$(subst $(space),"$(comma) ",$(strip $(TESTS)))' >> build/mutants/pyproject.toml
	cd build/mutants && export TOKENIZERS_PARALLELISM=false && MUTMUT=$(abspath $(VENV))/bin/mutmut && \
	$$MUTMUT run $(ARGS) && for name in $$($$MUTMUT results | sed -n 's/: \(survived\|no tests\)$$//p'); do $$MUTMUT show $$name; done && \
	$$MUTMUT export-cicd-stats && $$MUTMUT badge --output badge.json && \
	$(abspath $(RUN)) -c 'import json, sys; share = json.load(open("badge.json"))["message"]; print("noticed:", share); sys.exit(float(share[:-1]) < 80)'

## The app built from requirements.txt alone, as a Space builds it, on every Python it may meet there; slow.
space: $(VENV)/tests-installed
	$(RUN) -m pytest -m space -s tests/app/test_space.py $(ARGS)

## The package as wheel and sdist, each in an environment of its own and used there; slow.
package: $(VENV)/tests-installed
	$(RUN) -m pytest -m space -s tests/core/test_supply_chain.py $(ARGS)

## Known vulnerabilities in what a Space installs; says so and ends well where their source cannot be reached.
audit: $(VENV)/tests-installed
	@$(RUN) -m pip_audit -r requirements.lock --disable-pip -s osv --timeout 10 --progress-spinner off $(ARGS) 2>$(VENV)/audit.log; status=$$?; \
	if grep -qE 'ConnectionError|Timeout|Could not connect|HTTPError: (429|5..)' $(VENV)/audit.log; \
	then echo 'audit skipped: its source of known vulnerabilities (OSV) cannot be reached from here.'; \
	else cat $(VENV)/audit.log >&2; exit $$status; fi

## requirements.lock anew from requirements.txt: every package behind it, for Python 3.10 to 3.14, with hashes.
lock: $(VENV)/tests-installed
	$(VENV)/bin/uv pip compile --universal --generate-hashes --python-version 3.10 --no-header --no-annotate -o requirements.lock requirements.txt $(ARGS)

## The bill of materials and the licences of what a Space installs, from an environment made for it.
sbom: $(VENV)/tests-installed
	rm -rf $(VENV)-space && $(SPACE_PYTHON) -m venv $(VENV)-space
	$(VENV)-space/bin/python -m pip install --disable-pip-version-check -q -r requirements.lock
	$(VENV)-space/bin/python -m pip uninstall -q -y pip
	$(VENV)/bin/cyclonedx-py environment --output-reproducible --short-PURLs --sv 1.6 --pyproject pyproject.toml $(VENV)-space/bin/python | $(RUN) -c "$$SHORT_SBOM" > sbom.json
	printf '# Licences of what a Space installs\n\nWritten by `make sbom`, for Python 3.12 on Linux; pyproject.toml lists those that are allowed.\n\n' > LICENSES-DEPENDENCIES.md
	$(VENV)/bin/pip-licenses --python $(VENV)-space/bin/python >> LICENSES-DEPENDENCIES.md

## make train CATALOG=folder BUNDLE=folder
train: $(VENV)/training-installed
	@test -n "$(CATALOG)" -a -n "$(BUNDLE)" || { echo 'error: say which catalog and where to: make train CATALOG=folder BUNDLE=folder' >&2; exit 2; }
	$(RUN) -m training.train --catalog-dir "$(CATALOG)" --output-dir "$(BUNDLE)" $(ARGS)

## All benchmarks into benchmarks/results.md; quality among them with make bench CATALOG=folder TEST=folder [BUNDLE=folder]
bench: $(VENV)/benchmarks-installed
	$(RUN) -m benchmarks $(if $(CATALOG),--train "$(CATALOG)") $(if $(TEST),--test "$(TEST)") $(if $(BUNDLE),--bundle "$(BUNDLE)") $(ARGS)

## Style, docstrings, types and code that nothing uses.
lint: $(VENV)/tests-installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m vulture
	$(VENV)/bin/lint-imports

## The tests once, with the branches of rakuten_models that they take, in child processes too: at least 90 %.
coverage: $(VENV)/tests-installed
	rm -rf .coverage && mkdir .coverage
	$(RUN) -m coverage run -m pytest $(WORKERS) $(ARGS)
	$(RUN) -m coverage combine -q
	$(RUN) -m coverage report

## Debian's and Ubuntu's browser, for the tests that need one (as root).
browser:
	@command -v chromium >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; }

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo 'error: Python 3.10 or newer is needed; name one: make PYTHON=python3.11 ...' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/serving-installed: requirements.lock | $(RUN)
	$(RUN) -m pip install --disable-pip-version-check -q -r requirements.lock
	@touch $@

$(VENV)/training-installed: requirements.txt training/requirements.txt | $(RUN)
	$(RUN) -m pip install --disable-pip-version-check -q -r requirements.txt -r training/requirements.txt
	@touch $@ $(VENV)/serving-installed

$(VENV)/benchmarks-installed: requirements.txt training/requirements.txt benchmarks/requirements.txt | $(RUN)
	$(RUN) -m pip install --disable-pip-version-check -q -r requirements.txt -r training/requirements.txt -r benchmarks/requirements.txt
	@touch $@ $(VENV)/serving-installed $(VENV)/training-installed

$(VENV)/tests-installed: requirements.txt training/requirements.txt tests/requirements.txt | $(RUN)
	$(RUN) -m pip install --disable-pip-version-check -q -r requirements.txt -r training/requirements.txt -r tests/requirements.txt
	@touch $@ $(VENV)/serving-installed $(VENV)/training-installed
