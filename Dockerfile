FROM debian:bookworm-slim AS base
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 && \
    rm -rf /var/lib/apt/lists/*

FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends binutils python3-venv
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY pixel_server pixel_server
COPY workers workers
# /app gets what runs: no pip, and no symbols of debuggers.
RUN python3 -m venv /build && python3 -m venv --without-pip /app && \
    /build/bin/pip --python /app/bin/python3 install --no-cache-dir . && \
    find /app -name '*.so*' -type f -exec strip --strip-unneeded {} +

FROM base
RUN useradd --create-home --uid 10001 pixel && install -d -m 700 -o 10001 -g 10001 /data
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PIXEL_DATA_DIR=/data PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/pixel
VOLUME /data
EXPOSE 8000
# It checks the command that the container runs: `up` and `serve` on their port, `work` by its heartbeats.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["pixel-server", "health"]
# Runs everything in one container. With a Redis of your own, run `pixel-server serve` and `pixel-server work` apart.
CMD ["pixel-server", "up", "--host", "0.0.0.0"]
