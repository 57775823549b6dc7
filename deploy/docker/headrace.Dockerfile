# headrace in one image, for one machine: commands, Redis and CPU workers, as `headrace run` starts them.
# Built from the repository's root: docker build -f deploy/docker/headrace.Dockerfile .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" headrace:0.1.0 run reviews.parquet -o scored …
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
RUN /opt/headrace/bin/pip install --constraint constraints.txt '.[cpu,embedded,s3,report,train]' \
    --extra-index-url https://download.pytorch.org/whl/cpu \
    && /slim.sh /opt/headrace

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="headrace" \
      org.opencontainers.image.description="headrace: score a corpus on one machine" \
      org.opencontainers.image.licenses="Apache-2.0"
# Output belongs to the caller (--user), so every user may write to the home and the model cache.
RUN groupadd --gid 10001 headrace \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /home/headrace headrace \
    && mkdir /models /work && chown headrace:headrace /work && chmod 1777 /models /home/headrace
COPY --from=build /opt/headrace /opt/headrace
# USER for a caller whom /etc/passwd does not know: getpass asks for it.
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/home/headrace \
    USER=headrace \
    HEADRACE_MODEL_CACHE=/models \
    HF_HOME=/models/hub
USER 10001:10001
WORKDIR /work
VOLUME /models
STOPSIGNAL SIGTERM
# A job is judged by its exit code.
HEALTHCHECK NONE
ENTRYPOINT ["headrace"]
CMD ["--help"]
