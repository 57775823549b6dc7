# headrace-worker for the CPU: torch's own CPU build, none of CUDA.
# Built from the repository's root: docker build -f deploy/docker/worker-cpu.Dockerfile .
# The base is pinned by tag; pin it by digest where images are mirrored.

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/headrace
# torch alone is most of the image, and changes least.
COPY constraints.txt ./
RUN /opt/headrace/bin/pip install --constraint constraints.txt 'torch==2.13.0+cpu' \
    --extra-index-url https://download.pytorch.org/whl/cpu
COPY deploy/docker/slim.sh /
COPY pyproject.toml README.md ./
COPY schemas schemas
COPY headrace headrace
COPY producers producers
COPY workers workers
RUN /opt/headrace/bin/pip install --constraint constraints.txt '.[cpu,s3,metrics]' \
    --extra-index-url https://download.pytorch.org/whl/cpu \
    && /slim.sh /opt/headrace

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="headrace-worker-cpu" \
      org.opencontainers.image.description="headrace: score chunks from a queue" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 headrace \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /home/headrace headrace \
    && mkdir /models && chown headrace:headrace /models
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEADRACE_LOG_FORMAT=json \
    HEADRACE_DEVICE=cpu \
    HEADRACE_HEALTH=0.0.0.0:8081 \
    HEADRACE_MODEL_CACHE=/models \
    HF_HOME=/models/hub
USER 10001:10001
VOLUME /models
EXPOSE 8081
# SIGTERM reaches the fleet itself (exec form), which drains its workers: give the container
# HEADRACE_GRACE_S and 25 seconds (docker run --stop-timeout 55).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8081/livez', timeout=4)"]
ENTRYPOINT ["headrace-worker"]
CMD ["start"]
