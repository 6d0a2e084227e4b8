# syntax=docker/dockerfile:1
# docker build -t tributary .                      the service
# docker build -t tributary-bank --target bank .   the demo's workload

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libclang-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p tributary-service -p tributary-tests --bins \
    && mkdir /out \
    && cp target/release/tributary target/release/tributary-bank /out/

FROM debian:bookworm-slim AS runtime
RUN useradd --system --uid 10001 --home-dir /var/lib/tributary --create-home tributary
USER tributary
WORKDIR /var/lib/tributary

FROM runtime AS bank
COPY --from=build /out/tributary-bank /usr/local/bin/
ENTRYPOINT ["tributary-bank"]

FROM runtime AS service
COPY --from=build /out/tributary /usr/local/bin/
VOLUME /var/lib/tributary
EXPOSE 3307 8307
HEALTHCHECK --interval=2s --timeout=5s --start-period=30s --retries=15 \
    CMD ["tributary", "status", "--admin", "http://127.0.0.1:8307"]
ENTRYPOINT ["tributary"]
CMD ["serve", "--config", "/etc/tributary/tributary.toml"]
