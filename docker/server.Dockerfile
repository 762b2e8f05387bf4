# The image of the replica. It has two forms, which differ only in where the binary comes from:
#   --target local    target/static, as `make images` fills it; no registry is needed
#   --target source   built in here from the sources; needs a registry
# --build-arg BASE=debian:12-slim (or ubuntu:24.04) puts the same binary on top of a system.
ARG BASE=scratch

FROM ${BASE} AS image
# Numbers: an image from scratch knows no names.
USER 65532:65532
EXPOSE 5000
# For people who read `docker ps`; the balancer trusts its own heartbeats. Each check starts a process: not too often.
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s CMD ["/ringmaster-server", "--healthcheck"]
ENTRYPOINT ["/ringmaster-server"]

# Ahead of the next stage: a builder without BuildKit builds, and pulls, every stage up to its target.
FROM image AS local
COPY target/static/ringmaster-server /

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN scripts/setup.sh && scripts/static.sh ringmaster-server

FROM image AS source
COPY --from=build /src/target/static/ringmaster-server /
