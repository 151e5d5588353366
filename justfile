# What a developer runs. `just --list` shows it all.

python := ".venv/bin/python"

# Create .venv with everything that tests and lint need; run it again after a change of a .pyx
setup:
    test -x {{python}} || python3 -m venv .venv
    {{python}} -m pip install --quiet --editable '.[test,lint]'

# Rebuild the extensions only, with the annotated HTML in build/cython
build:
    NOETL_CYTHON_ANNOTATE=1 {{python}} -m pip install --quiet --editable .

# Run the tests; arguments go to pytest
test *arguments:
    {{python}} -m pytest -q {{arguments}}

# Check style, types and the direction of imports
lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/pyright
    .venv/bin/cython-lint noetl
    .venv/bin/lint-imports

# Format the code and repair what ruff can repair
format:
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .

# Write the pages and the dashboard that are generated
generate:
    {{python}} -m noetl.config.reference > docs/configuration.md
    {{python}} deploy/grafana/dashboard.py > deploy/grafana/noetl-server.json

# Run the micro-benchmarks; arguments go to pytest
bench *arguments:
    {{python}} -m pytest benchmarks -q --benchmark-columns=min,median,ops {{arguments}}

# Count the instructions of the micro-benchmarks and compare them with stored counts (needs valgrind)
instructions *arguments:
    {{python}} -m benchmarks.instructions {{arguments}}

# Measure and store new baselines of the micro-benchmarks, ratios and instructions
baselines:
    {{python}} -m pytest benchmarks -q --benchmark-disable --update-baselines
    {{python}} -m benchmarks.instructions --update

# Compare ASGI servers under the application (needs pip install granian hypercorn h11)
asgi-servers *arguments:
    {{python}} -m benchmarks.asgi_servers {{arguments}}

# Load scenarios, beside the reference where NOETL_REFERENCE_BINARY names its program
load *arguments:
    {{python}} -m benchmarks.load {{arguments}}

# The published claim: 60,000 events, at least 1,000 a second at a p95 below 100 ms
smoke *arguments:
    {{python}} -m benchmarks.smoke {{arguments}}

# An hour at 300 requests a second: is memory flat?
soak *arguments:
    {{python}} -m benchmarks.soak {{arguments}}

# A fault campaign: processes die, links break, disks fill, clocks jump, and nothing is lost or done twice
faults *arguments:
    {{python}} -m tests.faults {{arguments}}

# Build the wheel in dist, and beside it a bill of materials of what is locked
wheel:
    {{python}} -m pip wheel --no-deps --wheel-dir dist .
    .ci/sbom "$({{python}} -c 'import noetl; print(noetl.__version__)')" > dist/noetl-server.cdx.json

# Lock the newest versions of all dependencies that pyproject.toml allows (needs pip-tools)
lock:
    pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-index-url \
        --no-emit-trusted-host --no-emit-find-links --output-file requirements.lock pyproject.toml
