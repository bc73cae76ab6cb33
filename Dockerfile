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
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# Runs everything in one container. With a Redis of your own, run `pixel-server serve` and `pixel-server work` apart.
CMD ["pixel-server", "up", "--host", "0.0.0.0"]
