# The few commands there are. CI runs the same ones.

# Everything that passes before a change lands, on a fresh Debian as root.
all:
    tests/run

# The quick loop.
test:
    cargo test --workspace

# What `tests/run` asks of the text.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --workspace

# See it work.
demo scenario="errors":
    cargo run --release -- demo --scenario {{scenario}}
