# docker build -t celebahq .                                    for the CPU
# docker build -t celebahq --build-arg TORCH=cu130 .            for NVIDIA GPUs: docker run --gpus all ...
# docker run --rm -it --user "$(id -u):$(id -g)" -v "$PWD:/data" celebahq python -m pggan.train --h5 celebahq.h5
FROM python:3.11-slim-bookworm

# libraries of OpenCV
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY constraints.txt pyproject.toml setup.py README.md LICENSE ./

# torch first: as a requirement of others pip would bring one with CUDA packages to every image
ARG TORCH=cpu
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/$TORCH" "$(grep '^torch==' constraints.txt)"

COPY datatools datatools
COPY pipelines pipelines
COPY pggan pggan
RUN pip install --no-cache-dir --constraint constraints.txt ".[download,heic,huggingface,lmdb,onnx,tfrecord,video]"

# what torch and Matplotlib keep, for users without a home folder
ENV HOME=/tmp
WORKDIR /data
CMD ["celebahq-h5", "--help"]
