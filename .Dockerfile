# Root filesystem of the unikernel: the program and its configuration, nothing
# else. `kraft build` runs this through BuildKit; see the README for the way
# without Docker.
FROM --platform=$BUILDPLATFORM rust:1.95-slim AS build
ARG TARGETARCH=amd64
WORKDIR /src
RUN rustup component add rust-src && rustup target add x86_64-unknown-linux-musl aarch64-unknown-linux-musl
COPY . .
# the commands that ./test.sh runs too
RUN export RUSTC_BOOTSTRAP=1; \
    case $TARGETARCH in arm64) cargo image-arm64 --locked ;; *) cargo image --locked ;; esac && \
    cp target/*-unknown-linux-musl/release/haproxy /haproxy

FROM scratch
COPY --from=build /haproxy /usr/bin/haproxy
COPY haproxy.conf /etc/haproxy/haproxy.conf
