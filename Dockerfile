FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY pixel_server pixel_server
COPY workers workers
RUN python -m venv /app && /app/bin/pip install --no-cache-dir .

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 pixel && install -d -o 10001 /data
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PIXEL_DATA_DIR=/data PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/pixel
VOLUME /data
EXPOSE 8000
# It checks the command that the container runs: `up` and `serve` on their port, `work` by its heartbeats.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["pixel-server", "healthcheck"]
# Runs everything in one container. With a Redis of your own, run `pixel-server serve` and `pixel-server work` apart.
CMD ["pixel-server", "up", "--host", "0.0.0.0"]
