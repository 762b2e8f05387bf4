# The image of the balancer, which is that of the spawner, too. Its forms and arguments are those of server.Dockerfile.
ARG BASE=scratch

FROM ${BASE} AS image
USER 65532:65532
EXPOSE 5000 5001
# Healthy once every pool has a replica that serves.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/ringmaster", "healthcheck"]
ENTRYPOINT ["/ringmaster"]

FROM image AS local
COPY target/static/ringmaster /

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN scripts/setup.sh && scripts/static.sh ringmaster

FROM image AS source
COPY --from=build /src/target/static/ringmaster /
