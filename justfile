# What a contributor runs. `just check` is what CI runs.

check:
    .ci/run

test:
    cargo test --locked

demo:
    cargo run --release --locked -- demo

# Against json-server, the recorded GitHub API, and the standardwebhooks of PyPI and npm. Installs them into a temporary directory.
interop:
    cargo build --release --locked
    tests/interop/run.sh target/release/bellpull
