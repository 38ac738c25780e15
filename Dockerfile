# callpath in a container: docs/container.md. No step depends on the processor.

# Any image with python3 (3.11 to 3.13) and its venv module. Both stages need the same one: the
# virtual environment uses its interpreter.
ARG BASE=python:3.13.14-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY deploy/container/install deploy/container/
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY agent agent
COPY config config
COPY exporters exporters
COPY probes probes
RUN sh deploy/container/install /opt/callpath

FROM ${BASE}
ARG BASE
LABEL org.opencontainers.image.title="callpath" \
      org.opencontainers.image.description="Measures whether a messenger can still carry a call, and says so as Prometheus time series" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}"
# A new volume takes its owner and mode from here.
RUN install -d -o 22550 -g 22550 -m 0700 /var/lib/callpath
COPY --from=build /opt/callpath /opt/callpath
COPY deploy/container/callpath.yaml /etc/callpath/
# The byte code lies in a tree of its own, made by the install step: slim images ship none for the
# standard library, and this user could not write any. Whoever runs it as another must not either.
ENV PATH=/opt/callpath/bin:$PATH \
    PYTHONPYCACHEPREFIX=/opt/callpath/bytecode \
    PYTHONDONTWRITEBYTECODE=1 \
    STATE_DIRECTORY=/var/lib/callpath
VOLUME /var/lib/callpath
WORKDIR /
# A number, so that a cluster can tell that it is not root; it needs no line in /etc/passwd.
USER 22550:22550
EXPOSE 22550
# Without --config: it needs no file, and a file that was refused at a reload is no ill health.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["callpath", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["callpath"]
CMD ["run", "--config", "/etc/callpath/callpath.yaml"]
