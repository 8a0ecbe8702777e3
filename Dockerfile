# The service. CPU and torch-on-GPU images start from slim Python, the vLLM image from vLLM's own: docs/deploy.md.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# `server`, or `vllm` when the base image brings vLLM and therefore most dependencies in its own versions.
ARG EXTRA=server
# Where torch comes from; empty is PyPI, whose build needs a GPU's worth of libraries.
ARG TORCH_INDEX=
SHELL ["/bin/sh", "-euc"]
WORKDIR /src
COPY deploy/image/server.lock deploy/image/tools.lock deploy/image/torch.txt deploy/image/
RUN python3 -m venv /opt/tools; \
    /opt/tools/bin/pip install --no-cache-dir --no-deps --require-hashes -r deploy/image/tools.lock; \
    python3 -m venv --system-site-packages /opt/venv; \
    if [ "${EXTRA}" = server ]; then \
      /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r deploy/image/server.lock; \
      /opt/venv/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} -r deploy/image/torch.txt; \
    fi
COPY pyproject.toml README.md LICENSE ./
COPY client/ client/
COPY cli/ cli/
COPY demo/ demo/
COPY service/ service/
COPY trainer_adapters/ trainer_adapters/
COPY trainer/ trainer/
COPY rollout/ rollout/
RUN PATH=/opt/tools/bin:${PATH} /opt/tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist .; \
    if [ "${EXTRA}" = server ]; then \
      /opt/venv/bin/pip install --no-cache-dir --no-deps /dist/*.whl; \
      /opt/venv/bin/pip check; \
    else \
      for wheel in /dist/*.whl; do /opt/venv/bin/pip install --no-cache-dir "${wheel}[server]"; done; \
    fi; \
    /opt/tools/bin/cyclonedx-py environment --output-reproducible --output-file /opt/venv/sbom.cdx.json /opt/venv

FROM ${BASE_IMAGE}
# `gcc libc6-dev` on GPUs: Triton compiles its launchers.
ARG APT_PACKAGES=
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="opera-reward" \
      org.opencontainers.image.description="Rewards for RL, read off a language model's own log-probabilities" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# hadolint ignore=DL3008,SC2086
RUN if [ -n "${APT_PACKAGES}" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends ${APT_PACKAGES} && rm -rf /var/lib/apt/lists/*; \
    fi; \
    groupadd --gid 10001 opera && \
    useradd --uid 10001 --gid 10001 --no-log-init --home-dir /cache --shell /usr/sbin/nologin opera && \
    install --directory --owner=10001 --group=10001 /cache
COPY --from=build /opt/venv /opt/venv
COPY LICENSE /opt/venv/LICENSE
# Whatever anything writes goes to /cache: the root can be read-only.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/cache \
    TMPDIR=/cache \
    XDG_CACHE_HOME=/cache/xdg \
    HF_HOME=/cache/huggingface \
    TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    VLLM_CACHE_ROOT=/cache/vllm \
    CUDA_CACHE_PATH=/cache/cuda \
    NUMBA_CACHE_DIR=/cache/numba \
    HF_HUB_DISABLE_TELEMETRY=1 \
    VLLM_NO_USAGE_STATS=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OPERA_HOST=0.0.0.0
USER 10001:10001
WORKDIR /cache
VOLUME ["/cache"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["opera-reward"]
CMD ["serve"]
