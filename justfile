# The steps that people and CI call. `just` alone lists them.

set shell := ["bash", "-euo", "pipefail", "-c"]

_list:
    @just --list --unsorted

# Everything that must hold before a commit.
check: fmt clippy test doc deny

# The code is formatted.
fmt:
    cargo fmt --check

# No lint, in any target.
clippy:
    cargo clippy --all-targets -- -D warnings

# All tests, the README's lines among them.
test:
    cargo test

# The documentation builds without a warning, what is private too.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

# Licences, versions and sources of what is built in; works offline.
deny:
    cargo deny --offline check bans licenses sources

# Known advisories; needs the network.
advisories:
    cargo deny check advisories

# The examples run to their end.
examples:
    cargo run --quiet --example embedded
    cargo run --quiet --example worker_loop

# A node from start to stop, with a job's life on it; then doctor looks at what is left.
life:
    .ci/life

# Holds a node against its own /openapi.json with generated calls; needs Python and PyPI.
schemathesis:
    .ci/schemathesis

# A node with the default settings.
serve *flags:
    cargo run --release -- serve {{ flags }}

# Checks every invariant of a data directory that no node has open.
doctor dir="./pulk-data":
    cargo run --release -- doctor {{ dir }}

# Measures, if there are benchmarks.
bench *arguments:
    cargo bench {{ arguments }}
