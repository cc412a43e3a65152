# Both halves of Portway: `portway operator` and `portway proxy`. BASE has Python 3.11 or newer with venv, as python3.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG EXTRAS=otel
WORKDIR /src
RUN python3 -m venv /build
COPY constraints.txt ./
RUN /build/bin/python -m pip install --no-cache-dir --quiet -c constraints.txt pip
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY proxy proxy
COPY manifests/demo manifests/demo
RUN /build/bin/python -m pip wheel --no-cache-dir --quiet --no-deps --build-constraint constraints.txt -w /wheel .
# Without pip: nothing is installed into what runs. Compiled, because its root cannot be written to.
RUN python3 -m venv --without-pip /opt/portway \
 && /build/bin/python -m pip --python /opt/portway/bin/python3 install --no-cache-dir --quiet --compile --only-binary :all: \
    -c constraints.txt "$(echo /wheel/portway-*.whl)${EXTRAS:+[$EXTRAS]}"

FROM ${BASE}
ARG VERSION=""
LABEL org.opencontainers.image.title="portway" \
      org.opencontainers.image.description="A Kubernetes ingress controller in Python: operator and proxy." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="Portway" \
      org.opencontainers.image.version="${VERSION}"
# What installs Python packages, under the names that Debian's and Docker's own images have for it.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/pip* \
    /usr/local/lib/python3*/site-packages/setuptools* /usr/local/lib/python3*/site-packages/wheel* \
    /usr/bin/pip* /usr/lib/python3*/ensurepip /usr/lib/python3/dist-packages/pip* /usr/share/python-wheels
COPY --from=build /opt/portway /opt/portway
ENV PATH=/opt/portway/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /
# HTTP, HTTPS, admin; the operator's stream and health.
EXPOSE 8080 8443 9090 9444 8081
STOPSIGNAL SIGTERM
# Both halves are made to be process 1: they handle SIGTERM, start only processes that they wait for, and need no shell.
ENTRYPOINT ["portway"]
