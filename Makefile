# All development tasks of econed. `make` without a target lists them.

PYTHON ?= python3
VENV := .venv
FLOOR_VENV := $(VENV)/botocore-floor
NEWEST_VENV := $(VENV)/botocore-newest
BUILD_PACKAGES := python3-venv gcc make debhelper dpkg-dev
TEST_PACKAGES := rpm mmdebstrap logrotate systemd jq \
    apparmor groff-base iproute2 zsh \
    podman crun \
    prometheus \
    nginx-light haproxy lighttpd lighttpd-mod-openssl lighttpd-modules-lua \
    openssl sslscan testssl.sh \
    ansible wrk

# While this file exists, packages do not start their services: the tests need only the programs of the servers.
NO_START := /usr/sbin/policy-rc.d

# The whole test suite, and the tests that depend on botocore's model.
PYTEST := -n 4 --dist worksteal -m "not live"
WIRE_TESTS := $(wildcard tests/wire tests/test_wire*.py tests/test_dispatch.py tests/test_botocore.py)

# A stamp file in a virtual environment marks that the requirements of that name are installed.
DEMO := $(VENV)/.demo-installed
TEST := $(VENV)/.test-installed
RELEASE := $(VENV)/.release-installed
BENCH := $(VENV)/.benchmarks-installed
FLOOR := $(FLOOR_VENV)/.test-installed

.PHONY: help demo serve test test-fast lint test-live soak attacks bench test-botocore-floor test-botocore-newest \
    wheel deb rpm changelog deps test-deps clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
	    || sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1: \2/p' Makefile

demo: $(DEMO) ## start econed with an OpenNebula in memory and use it with boto3
	$(VENV)/bin/python -m econed.cli.demo

serve: $(DEMO) ## start such a server and leave it running, for the AWS CLI (PORT=4567, VERBOSE=1 prints its log)
	$(VENV)/bin/python -m econed.cli.serve $(if $(PORT),--port $(PORT)) $(if $(VERBOSE),--verbose)

test: lint $(TEST) ## ruff, mypy and the whole test suite
	$(VENV)/bin/python -m pytest $(PYTEST)

test-fast: $(TEST) ## the tests without the mark `slow`, in less than two minutes
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m "not live and not slow"

lint: $(TEST) ## only ruff and mypy
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

# The values are passed unchanged in the environment, so that a password is neither expanded nor printed.
test-live: export ECONED_LIVE_ONED = $(value ONED)
test-live: export ECONED_LIVE_ONEADMIN = $(value ONEADMIN)
test-live: export ECONED_LIVE_AUTH_FILE = $(value AUTH_FILE)
test-live: $(TEST) ## the end-to-end tests on a real oned: ONED=URL ONEADMIN=user:password AUTH_FILE=path
	@[ -n "$$ECONED_LIVE_ONED" ] && [ -n "$$ECONED_LIVE_ONEADMIN" ] && [ -r "$$ECONED_LIVE_AUTH_FILE" ] || { \
	    echo "usage: make test-live ONED=URL ONEADMIN=user:password AUTH_FILE=path (a readable file)" >&2; exit 2; }
	$(VENV)/bin/python -m pytest -m live

test-botocore-floor: $(FLOOR) ## the tests of econed.wire, and of the actions against the model, with the oldest supported botocore
	@[ -n "$(WIRE_TESTS)" ] || { echo "there are no tests of econed.wire" >&2; exit 1; }
	$(FLOOR_VENV)/bin/python -m pytest $(PYTEST) $(WIRE_TESTS)

test-botocore-newest: $(NEWEST_VENV)/bin/python ## the same tests with the newest botocore
	$(NEWEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade -r requirements/botocore-newest.txt
	$(NEWEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(NEWEST_VENV)/bin/python -c 'import botocore; print("botocore", botocore.__version__)'
	$(NEWEST_VENV)/bin/python -m pytest $(PYTEST) $(WIRE_TESTS)

soak: $(TEST) ## soak test: load on two workers with TLS for ten minutes, with memory measurements (MINUTES=10)
	$(VENV)/bin/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES))

attacks: $(TEST) ## attack an econed on loopback and measure the effect on another user (NAMES="filters ids …")
	$(VENV)/bin/python -m tests.attacks $(NAMES)

bench: export ECONED_LIVE_ONED = $(value ONED)
bench: export ECONED_LIVE_ONEADMIN = $(value ONEADMIN)
bench: export ECONED_LIVE_AUTH_FILE = $(value AUTH_FILE)
bench: $(BENCH) ## measure econed on the sandbox, or with ONED, ONEADMIN, AUTH_FILE on a real oned (FULL=1; ONLY=list,by-id)
	$(VENV)/bin/python -m benchmarks $(if $(FULL),--full) $(if $(ONLY),--only $(ONLY),--results benchmarks/results >/dev/null)
	$(if $(ONLY),,$(VENV)/bin/python -m benchmarks.page)

# Each of them also writes the checksums of all files in dist/; the list of components is the one of both packages.
wheel: $(RELEASE) ## build the wheel and the source archive in dist/, with a list of all components (SBOM) and checksums
	rm -f dist/econed-*.whl dist/econed-*.tar.gz
	$(VENV)/bin/python -m build --no-isolation --outdir dist
	$(VENV)/bin/python -m distribution.components dist/econed-*.whl dist
	$(call checksums)

deb: wheel ## build the package for this release of Debian or Ubuntu in dist/
	$(VENV)/bin/python -m distribution.deb dist/econed-*.whl dist
	$(call checksums)

rpm: wheel ## build the package for this release of a system with RPM in dist/
	$(VENV)/bin/python -m distribution.rpm dist/econed-*.whl dist
	$(call checksums)

changelog: $(RELEASE) ## for a release: move the fragments in changelog.d into CHANGELOG.md, as changes of this version
	$(VENV)/bin/towncrier build --yes --version $$($(VENV)/bin/python -c 'import econed; print(econed.__version__)')

# A machine that builds a package may be OpenNebula's front end: it gets no servers, which would start at its next boot.
deps: ## install missing Debian packages that `make demo` and `make deb` need (the only step that needs root)
	@$(call install_packages,$(BUILD_PACKAGES))

test-deps: ## the same with those that the tests need: web servers, Prometheus, podman and others
	@$(call install_packages,$(BUILD_PACKAGES) $(TEST_PACKAGES))

define install_packages
	missing=$$(for package in $(1); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || echo $$package; done); \
	if [ -z "$$missing" ]; then echo "nothing is missing"; exit 0; fi; \
	command -v apt-get >/dev/null || { echo "this is not a Debian system; install:" $$missing >&2; exit 1; }; \
	if [ "$$(id -u)" = 0 ]; then root=; else root=sudo; fi; \
	if [ ! -e $(NO_START) ]; then \
	    trap "$$root rm -f $(NO_START)" EXIT; \
	    printf '#!/bin/sh\nexit 101\n' | $$root tee $(NO_START) >/dev/null; $$root chmod 755 $(NO_START); \
	fi; \
	$$root apt-get update && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing
endef

clean: ## remove all generated files
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis _trial_temp*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define checksums
	cd dist && rm -f SHA256SUMS && sha256sum -- * >.sums && mv .sums SHA256SUMS
endef

# The project is installed in editable mode, with the pinned setuptools, so that no unpinned package is downloaded.
define install
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check -r $(2)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
endef

$(DEMO): $(addprefix requirements/,demo.txt daemon.txt runtime.txt build.txt) setup.cfg pyproject.toml | $(VENV)/bin/python
	$(call install,$(VENV),requirements/demo.txt)

$(TEST): $(wildcard requirements/*.txt) setup.cfg pyproject.toml | $(VENV)/bin/python
	$(call install,$(VENV),requirements/test.txt)

$(RELEASE): $(addprefix requirements/,release.txt build.txt) setup.cfg pyproject.toml | $(VENV)/bin/python
	$(call install,$(VENV),requirements/release.txt)

$(BENCH): requirements/benchmarks.txt $(TEST)
	$(call install,$(VENV),requirements/benchmarks.txt)

$(FLOOR): $(wildcard requirements/*.txt) setup.cfg pyproject.toml | $(FLOOR_VENV)/bin/python
	$(call install,$(FLOOR_VENV),requirements/botocore-floor.txt)

$(VENV)/bin/python $(FLOOR_VENV)/bin/python $(NEWEST_VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "econed needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "$(PYTHON) cannot create virtual environments. On Debian and Ubuntu: make deps" \
	              "(or: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(@D:/bin=)
