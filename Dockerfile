# syntax=docker/dockerfile:1
# Debian's Python: patched with the system, and smaller than the images named python.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
WORKDIR /source
COPY . .
# Extras of the distribution, for example --build-arg EXTRAS='[otel]'
ARG EXTRAS=""
# Wheels carry debug symbols and C sources that nothing reads at run time: half of their size.
RUN python3 -m venv --without-pip /opt/noetl \
    && pip --python /opt/noetl/bin/python install --no-cache-dir ".${EXTRAS}" \
    && find /opt/noetl -name '*.so' -exec strip --strip-unneeded {} + \
    && find /opt/noetl -type f \( -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' \) -delete

FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /app --shell /usr/sbin/nologin noetl
COPY --from=builder /opt/noetl /opt/noetl
WORKDIR /app
USER 10001:10001
ENV PATH=/opt/noetl/bin:$PATH \
    NOETL_HOST=0.0.0.0 \
    NOETL_PORT=8082 \
    RUST_LOG=info,noetl_server=debug \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
EXPOSE 8082
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python", "-m", "noetl.healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["noetl-server"]
