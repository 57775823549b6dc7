# headrace, the producers' side: submit, controller, report, gateway. No torch, no transformers.
# Built from the repository's root: docker build -f deploy/docker/producer.Dockerfile .
# The base is pinned by tag; pin it by digest where images are mirrored:
#   docker buildx imagetools inspect python:3.11.14-slim-bookworm

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/headrace
# What changes rarely comes first: the dependencies stay in their layer.
COPY deploy/docker/slim.sh /
COPY pyproject.toml constraints.txt README.md ./
COPY schemas schemas
COPY headrace headrace
COPY producers producers
COPY workers workers
RUN /opt/headrace/bin/pip install --constraint constraints.txt '.[gateway,s3,metrics,report]' \
    && /slim.sh /opt/headrace

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="headrace-producer" \
      org.opencontainers.image.description="headrace: submit, follow and finish jobs" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 headrace \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /home/headrace headrace \
    && mkdir /state && chown headrace:headrace /state
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEADRACE_LOG_FORMAT=json \
    HEADRACE_LISTEN=0.0.0.0:8080 \
    XDG_STATE_HOME=/state
USER 10001:10001
VOLUME /state
EXPOSE 8080
STOPSIGNAL SIGTERM
# Only the controller and the gateway listen; a `submit` is short and is judged by its exit code.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["headrace"]
CMD ["controller"]
