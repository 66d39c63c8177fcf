# The steps that people and CI call. `just` alone lists them.

set shell := ["bash", "-euo", "pipefail", "-c"]

_list:
    @just --list --unsorted

# Everything that must hold before a commit.
check: fmt clippy test doc deny

# The code is formatted.
fmt:
    cargo fmt --check
    cd benches/peers && cargo fmt --check

# No lint, in any target.
clippy:
    cargo clippy --all-targets -- -D warnings
    cd benches/peers && cargo clippy --all-targets -- -D warnings

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
    cargo run --quiet --example worker

# A node from start to stop, with a job's life on it; then doctor looks at what is left.
life:
    .ci/life

# The examples of push targets, in Python and Node, as sidecars of a node.
push:
    .ci/push

# Holds a node against its own /openapi.json with generated calls; needs Python and PyPI.
schemathesis:
    .ci/schemathesis

# What is deployed: manifests, alerts and dashboard are valid, and fit the program; needs PyPI.
deploy-check:
    .ci/deploy

# The image is built, and runs as Kubernetes would run it; needs root, or sudo without a password.
image:
    .ci/image

# Pods of a StatefulSet, as processes: restarted, killed, scaled to nothing and back.
rehearsal:
    cargo test --test rehearsal

# Histories of badly behaved clients, clocks and disks, from so many seeds. A release build: it
# is ten times as fast.
simulation seeds="1000":
    PULK_SEEDS={{ seeds }} cargo test --release --test simulation

# A node under load, killed so many times.
kill kills="200":
    PULK_KILLS={{ kills }} cargo test --test kill

# So many disks as a power cut may leave them, each opened by a node.
power-cut images="300":
    PULK_IMAGES={{ images }} cargo test --test power_cut

# A node whose n-th call to the disk fails, for every n.
failing-disk:
    cargo test --test failing_disk

# So many flipped bits in data directories at rest, each opened.
bit-rot flips="600":
    PULK_FLIPS={{ flips }} cargo test --test bit_rot

# Breaks the product on purpose, and demands that the tests catch it.
mutations:
    cargo test --test mutations -- --ignored --nocapture

# All fuzz targets, or one, for so many seconds each; needs a nightly toolchain and cargo-fuzz.
fuzz seconds="60" *targets:
    .ci/fuzz {{ seconds }} {{ targets }}

# A node with the default settings.
serve *flags:
    cargo run --release -- serve {{ flags }}

# Checks every invariant of a data directory that no node has open.
doctor dir="./pulk-data":
    cargo run --release -- doctor {{ dir }}

# Measures, if there are benchmarks.
bench *arguments:
    cargo bench {{ arguments }}

# The microbenches run, each once and with few jobs; measures nothing.
bench-trial:
    cargo bench --bench codec --bench commands --bench store --bench waiting -- --test

# The same, and what pulk reaches beside the limit of this disk, in few jobs: it shows that all works.
bench-small: bench-trial
    cargo run --release -- bench --quick

# pulk beside Redis, BullMQ, beanstalkd, PostgreSQL, RabbitMQ and NATS; installs them, as root or by sudo.
peers *arguments:
    benches/peers/run {{ arguments }}
