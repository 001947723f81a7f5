#!/usr/bin/env bash
# Everything that can be tested, with one command, from a clean clone: format, lints, the tests of both packages, the
# documentation's examples and the runtime's example. The last line says how many tests passed and how many failed.
#
# It needs cargo with rustfmt and clippy, a C compiler for the embedded SQLite, and the servers that the tests start for
# themselves: PostgreSQL and PgBouncer. What is missing it installs where it may: components by rustup, the others from
# the system's packages when it runs as root.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Plain output, so that the counts can be read from it; the backtraces of expected panics are not worth their time.
export CARGO_TERM_COLOR=never RUST_BACKTRACE="${RUST_BACKTRACE:-0}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
summary=()

give_up() {
    echo "tests/run.sh: $1" >&2
    exit 1
}

# install WHAT PACKAGE...
install() {
    local what=$1
    shift
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || give_up "there is no $what: install $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q && apt-get install -yq --no-install-recommends "$@" ||
        give_up "there is no $what, and apt-get could not install $*"
}

# A program on the PATH, or where distributions put servers.
has() {
    command -v "$1" >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null || [[ -x /usr/sbin/$1 ]]
}

need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    command -v rustup >/dev/null || give_up "cargo $1 is missing: install it with the Rust toolchain"
    rustup component add "$2" || give_up "rustup could not add $2"
}

# The numbers before a word on the lines where the tests tell their results, added up.
count() {
    sed -nE "s/^test result: .* ([0-9]+) $1;.*/\1/p" "$log" | awk '{ sum += $1 } END { print sum + 0 }'
}

# Runs a step, shows what it says, and notes how it ended.
step() {
    local name=$1 begun=$SECONDS verdict=ok good bad
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" 2>&1 | tee "$log" || verdict=FAILED
    good=$(count passed)
    bad=$(count failed)
    # A step that fails without a failed test, such as one that does not compile, counts as one.
    [[ $verdict == ok || $bad -gt 0 ]] || bad=1
    passed=$((passed + good))
    failed=$((failed + bad))
    summary+=("$(printf '%-9s %-7s %4d s' "$name" "$verdict" $((SECONDS - begun)))")
}

command -v cargo >/dev/null || give_up "there is no cargo: install Rust from https://rustup.rs"
has cc || install "C compiler (cc)" gcc libc6-dev
has initdb || install "PostgreSQL" postgresql
has pgbouncer || install "PgBouncer" pgbouncer
has openssl || install "openssl" openssl
need_component fmt rustfmt
need_component clippy clippy

# The runtime's tests and the example need its feature; the same features everywhere build everything once.
all=(--locked --workspace --features longshore-actors/testing)

step format cargo fmt --all --check
step clippy cargo clippy "${all[@]}" --all-targets -- -D warnings
step tests cargo test "${all[@]}" --no-fail-fast --lib --bins --tests
step docs cargo test "${all[@]}" --no-fail-fast --doc
step example cargo run "${all[@]:0:1}" --package longshore-actors --features testing --example tree

printf '\n'
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
