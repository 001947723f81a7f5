# longshore run, as a user of its own, with the store in /var/lib/longshore.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin longshore

FROM debian:bookworm-slim
# The roots that certificates of the upstreams are checked against.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/longshore --create-home longshore
COPY --from=build /src/target/release/longshore /usr/local/bin/longshore
COPY config/production.toml /etc/longshore/longshore.toml
ENV LONGSHORE_CONFIG=/etc/longshore/longshore.toml
USER longshore
WORKDIR /var/lib/longshore
VOLUME /var/lib/longshore
EXPOSE 8500
STOPSIGNAL SIGTERM
# `longshore check` would ask for the store, which the service has; so the process is asked itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8500 && printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q '\"live\":true' <&3"]
ENTRYPOINT ["longshore"]
CMD ["run"]
