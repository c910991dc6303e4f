# Root filesystem of the unikernel: the program and its configuration, nothing
# else. `kraft build` runs this through BuildKit; see the README for the way
# without Docker.
FROM rust:1.95-slim AS build
WORKDIR /src
RUN rustup component add rust-src && rustup target add x86_64-unknown-linux-musl
COPY . .
# the command that ./test.sh runs too
RUN RUSTC_BOOTSTRAP=1 cargo image --locked

FROM scratch
COPY --from=build /src/target/x86_64-unknown-linux-musl/release/haproxy /usr/bin/haproxy
COPY haproxy.conf /etc/haproxy/haproxy.conf
