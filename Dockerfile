# pulk alone: one static program, no shell, no libraries, an unprivileged user.
#
#   docker build -t pulk .
#
# A program that was built elsewhere, as ./pulk beside this file, is put in as it is by
# --build-arg BINARY=prebuilt.
ARG BINARY=build

FROM docker.io/library/rust:1.95-alpine AS build
WORKDIR /pulk
COPY . .
# The allocator, jemalloc, is built with make.
RUN apk add --no-cache make
# Alpine's libc is musl: what is built there is static. Without symbols it is a third as large.
RUN CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_DEBUG=false \
    cargo build --release --locked --bin pulk \
    && cp target/release/pulk /pulk/pulk

FROM scratch AS prebuilt
WORKDIR /pulk
COPY pulk .

FROM ${BINARY} AS binary

FROM scratch
COPY --from=binary --chmod=0755 /pulk/pulk /pulk
# A number, so that Kubernetes sees that it is not root. The volume must belong to it, or to its group.
USER 65532:65532
# There are no certificates in it: for pushes to https URLs mount a file of those to trust, and name it
# in SSL_CERT_FILE.
# What must be writable, and nothing else.
VOLUME /data
ENV PULK_DATA_DIR=/data/queue
# In a container, localhost is nobody. It has no login: see to who reaches it.
ENV PULK_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=6s --start-period=5m CMD ["/pulk", "healthcheck"]
ENTRYPOINT ["/pulk"]
CMD ["serve"]
