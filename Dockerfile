# All of hsi-pipeline in one image, for processors or for NVIDIA GPUs:
#   docker build -t hsi-pipeline .
#   docker build -t hsi-pipeline:gpu --build-arg DEVICE=gpu .
# The folder you are in becomes /data, where the program works:
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" hsi-pipeline demo
#   docker run --rm --gpus all -v "$PWD:/data" --user "$(id -u):$(id -g)" hsi-pipeline:gpu info scene.tif
# For GPUs the machine needs NVIDIA's driver and its Container Toolkit; CUDA comes with torch.
# workflows/clusters/kubernetes.yaml runs it on a cluster.
FROM python:3.12.11-slim-bookworm AS build
ARG DEVICE=cpu
WORKDIR /build
COPY pyproject.toml setup.py README.md LICENSE constraints.txt ./
COPY workflows/landcover.yaml workflows/
COPY sample_data sample_data
COPY hsi_pipeline hsi_pipeline
# torch of PyPI brings gigabytes of CUDA; its builds for processors have an address of their own
RUN case "$DEVICE" in \
      cpu) set -- --extra-index-url https://download.pytorch.org/whl/cpu ;; \
      gpu) set -- ;; \
      *) echo "DEVICE is cpu or gpu, not '$DEVICE'" >&2; exit 2 ;; \
    esac \
 && python -m venv /opt/hsi-pipeline \
 && /opt/hsi-pipeline/bin/pip install --no-cache-dir --constraint constraints.txt "$@" .

FROM python:3.12.11-slim-bookworm
# rasterio's wheels take libexpat from the system. Not pinned: Debian keeps the last version alone,
# so that a pin would break the build with the next security update.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libexpat1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 hsi \
 # any other user may be chosen too, whose files then are theirs
 && chmod 1777 /home/hsi \
 && mkdir --mode 1777 /data
COPY --from=build /opt/hsi-pipeline /opt/hsi-pipeline
# LOGNAME: torch asks for the user's name, and one that --user gives has none
ENV PATH="/opt/hsi-pipeline/bin:$PATH" \
    HOME=/home/hsi \
    LOGNAME=hsi \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /data
USER 1000
ENTRYPOINT ["hsi-pipeline"]
