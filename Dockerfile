# Python 3.11 is what CI tests; slim is Debian, whose glibc has a wheel for every pinned dependency
# (make check-wheels), so no compiler is needed.
FROM python:3.11-slim AS builder
COPY requirements.lock /build/
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
        --root-user-action ignore --require-hashes --only-binary :all: -r /build/requirements.lock
WORKDIR /app
COPY server.py ./
COPY cli cli/
COPY hub hub/
COPY handlers handlers/
COPY workers workers/
COPY api api/
COPY console console/
COPY clients/js/client.js clients/js/
COPY clients/python/broadcast_client clients/python/broadcast_client/
COPY deploy/healthcheck.py deploy/
# Bytecode is compiled here because appuser may not write; the hash keeps it valid with any mtime.
RUN python -m compileall -q --invalidation-mode unchecked-hash . && chmod -R a+rX .

FROM python:3.11-slim
LABEL org.opencontainers.image.title="websocket-broadcast" \
    org.opencontainers.image.description="Self-hosted WebSocket publish/subscribe server" \
    org.opencontainers.image.version="0.2.0" \
    org.opencontainers.image.base.name="docker.io/library/python:3.11-slim"
RUN groupadd --gid 1001 appgroup \
    && useradd --uid 1001 --gid appgroup --no-create-home --shell /usr/sbin/nologin appuser
COPY --from=builder /venv /venv
COPY --from=builder /app /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
# appuser:appgroup as numbers: Kubernetes cannot check that a name is not root.
USER 1001:1001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 \
    CMD ["python", "deploy/healthcheck.py"]
# Exec form: python is process 1, so it receives SIGTERM and closes its clients.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "server.py"]
