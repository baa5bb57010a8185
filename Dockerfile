FROM python:3.11-slim-bookworm AS packages
WORKDIR /app
COPY requirements.lock requirements-dev.lock ./
# uv is locked with the development tools; the image itself carries only what serving needs.
RUN sed -n '/^uv==/,/[^\\]$/p' requirements-dev.lock > uv.txt \
    && pip install --no-cache-dir --require-hashes --no-deps -r uv.txt \
    && python -m venv --without-pip .venv \
    && uv pip sync --no-cache --require-hashes --compile-bytecode --python .venv/bin/python requirements.lock


FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin bkapp
WORKDIR /app
COPY --from=packages /app/.venv .venv
COPY migrations migrations
COPY src src
# The code is read from src/, as in development, so that no build tool from outside the lock takes part.
RUN printf '#!/bin/sh\nexec /app/.venv/bin/python -m bkapp "$@"\n' > /usr/local/bin/bkapp \
    && chmod 755 /usr/local/bin/bkapp \
    && .venv/bin/python -m compileall -q src migrations
ARG BKAPP_RELEASE=image
ENV BKAPP_RELEASE=$BKAPP_RELEASE PYTHONPATH=/app/src PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER bkapp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["/app/.venv/bin/python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://localhost:{os.environ.get('BKAPP_PORT') or 8000}/healthz\", timeout=3)"]
CMD ["bkapp", "serve"]
