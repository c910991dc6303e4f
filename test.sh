#!/usr/bin/env bash
# Tests everything. Sets up what it needs: toolchain parts with rustup, and
# where they are missing and apt-get is there, curl, strace, python3, binutils
# and qemu-user.
#
#   ./test.sh          all of it, on a fresh clone too
#   ./test.sh NAME     the tests over sockets whose name contains NAME
#   ./test.sh soak     a million connections of every bad kind (takes long)
#   ./test.sh fuzz     the random tests of the pure parts, 200 times as many
#   ./test.sh libfuzzer [SECONDS]   the same parts under cargo fuzz, on nightly
#   ./test.sh kraft    the real thing: kraft build, run with -M 64M, curl, stop
set -euo pipefail
cd "$(dirname "$0")"

X86=target/x86_64-unknown-linux-musl/release/haproxy
ARM=target/aarch64-unknown-linux-musl/release/haproxy
PROGRAM=$X86
ROOTFS=target/rootfs
# Bytes of each program; of the root filesystem as kraft packs it it is 1,200
# more, which on x86_64 makes less than 480,000 with a kernel of 357,000.
X86_BUDGET=121700
ARM_BUDGET=124000
FILES_BUDGET=1200

step() { printf '\n== %s\n' "$*"; }

package() {
    case $1 in readelf) echo binutils ;; qemu-aarch64) echo qemu-user ;; *) echo "$1" ;; esac
}

setup() {
    step "toolchain parts and tools"
    rustup target add x86_64-unknown-linux-musl aarch64-unknown-linux-musl
    rustup component add rust-src rustfmt clippy
    local missing=() tool
    for tool in curl strace python3 readelf qemu-aarch64; do
        command -v "$tool" >/dev/null || missing+=("$(package "$tool")")
    done
    if ((${#missing[@]})); then
        command -v apt-get >/dev/null || { echo "please install: ${missing[*]}"; exit 1; }
        local sudo=""
        ((EUID == 0)) || sudo=sudo
        $sudo apt-get update -qq
        $sudo apt-get install -y -qq "${missing[@]}"
    fi
}

# The root filesystem of a program, ready for `kraft build --rootfs`.
rootfs() {
    rm -rf "$2"
    install -D -m 755 "$1" "$2/usr/bin/haproxy"
    install -D -m 644 haproxy.conf "$2/etc/haproxy/haproxy.conf"
}

image() {
    RUSTC_BOOTSTRAP=1 cargo image --locked
    rootfs "$X86" "$ROOTFS"
}

# The size of a directory as an uncompressed newc CPIO: for each entry a head
# of 110 bytes and its name, padded to 4, and the content, padded to 4.
cpio_size() {
    (cd "$1" && find . -printf '%P %y %s\n') | awk '
        function pad(n) { return int((n + 3) / 4) * 4 }
        { total += pad(110 + length($1 == "" ? "." : $1) + 1) + ($2 == "f" ? pad($3) : 0) }
        END { print total + 124 }'
}

# That a program loads on Unikraft, and that it is within its budget.
inspect() {
    local program=$1 files=$2 budget=$3 bytes packed
    readelf -hlW "$program" >target/readelf.txt
    grep -q 'Type: *DYN' target/readelf.txt || { echo "not position-independent"; exit 1; }
    ! grep -q INTERP target/readelf.txt || { echo "wants an interpreter"; exit 1; }
    bytes=$(stat -c %s "$program")
    packed=$(cpio_size "$files")
    echo "program $bytes bytes, root filesystem $packed bytes as a CPIO"
    ((bytes <= budget && packed <= budget + FILES_BUDGET)) || { echo "over the budget of $budget"; exit 1; }
}

static_build() {
    step "the static program"
    image
    inspect "$X86" "$ROOTFS" "$X86_BUDGET"
}

arm64() {
    step "the same for arm64, in an emulator"
    RUSTC_BOOTSTRAP=1 cargo image-arm64 --locked
    rootfs "$ARM" "$ROOTFS-arm64"
    inspect "$ARM" "$ROOTFS-arm64" "$ARM_BUDGET"
    with_curl qemu-aarch64 "$ARM"
}

reproducible() {
    step "the same bytes from another folder"
    local other
    other=$(mktemp -d)
    cp -r Cargo.toml Cargo.lock main.rs haproxy.conf .cargo "$other"
    (cd "$other" && RUSTC_BOOTSTRAP=1 cargo image --locked --quiet)
    cmp "$PROGRAM" "$other/$PROGRAM"
    rm -rf "$other"
    echo "identical"
}

with_curl() {
    "$@" -f haproxy.conf &
    local pid=$! status
    for _ in $(seq 100); do curl -s -o /dev/null localhost:8404/stats && break; sleep 0.05; done
    status=$(curl -s -o target/stats.html -w '%{http_code}' localhost:8404/stats)
    [ "$status" = 200 ] && grep -q '<h2 id=.stats.>' target/stats.html
    [ "$(curl -s 'localhost:8404/stats;csv' | tail -1 | cut -d, -f1,2)" = "stats,FRONTEND" ]
    [ "$(curl -s -o /dev/null -w '%{http_code}' localhost:8404/)" = 503 ]
    kill "$pid"
    wait "$pid" || true
    echo "200, CSV and 503"
}

kraft_run() {
    step "kraft"
    command -v kraft >/dev/null || { echo "kraft is not installed, so this was not tested"; exit 1; }
    local sudo=""
    [ -d "$ROOTFS" ] || image
    kraft build --rootfs "$ROOTFS" --plat qemu --arch x86_64 .
    $sudo kraft run --rm --detach --name tiny-haproxy-test -M 64M -p 8404:8404 --plat qemu --arch x86_64 .
    trap 'kraft stop tiny-haproxy-test' EXIT
    curl --retry 20 --retry-all-errors --retry-delay 1 -sf localhost:8404/stats | grep -q '<h2 id=.stats.>'
    echo "served by a unikernel"
}

# The pure parts leak what they build from a configuration, on purpose: the
# fuzzer starts itself again when that grows too large.
libfuzzer() {
    local found=target/fuzz
    command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
    rustup toolchain install nightly --profile minimal
    mkdir -p "$found/corpus" "$found/artifacts"
    cargo +nightly fuzz run --fuzz-dir .ci/fuzz --target-dir "$found" -s none pure "$found/corpus" -- \
        -max_total_time="$1" -max_len=4096 -fork=1 -ignore_ooms=1 -rss_limit_mb=1024 -artifact_prefix="$found/artifacts/"
}

case "${1:-all}" in
all)
    setup
    step "formatting" && cargo fmt --check
    step "clippy" && cargo clippy --locked --all-targets -- -D warnings
    step "unit tests" && cargo test --locked
    step "a plain build on stable" && cargo build --locked --release
    static_build
    reproducible
    step "the stock configuration, with curl"
    with_curl "$PROGRAM"
    arm64
    step "over sockets"
    python3 .ci/sockets.py "$PROGRAM"
    ;;
soak) setup && static_build && SOAK=${2:-1000000} python3 .ci/sockets.py "$PROGRAM" churn ;;
libfuzzer) libfuzzer "${2:-3600}" ;;
fuzz) HAPROXY_TEST_ROUNDS=${2:-400000} cargo test --locked --release -- any_ cut ;;
kraft) setup && kraft_run ;;
*) static_build && python3 .ci/sockets.py "$PROGRAM" "$@" ;;
esac
