# docker build -t tilewright . && docker run --rm -v "$PWD:/work" tilewright map resnet18 eyeriss
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir build
COPY . /source
RUN python -m build --wheel --outdir /dist /source

FROM python:3.13-slim
# gcc compiles the C programs of `compile`; Verilator simulates the block of `hwc`
RUN apt-get update \
  && apt-get install --yes --no-install-recommends gcc g++ libc6-dev make verilator \
  && rm -rf /var/lib/apt/lists/*
COPY --from=build /dist /dist
RUN wheel=$(ls /dist/*.whl) && pip install --no-cache-dir "$wheel[compile,codesign,hwc,pandas,parquet,report,serve]" && rm -r /dist
# The kernels of the mapper are compiled here, once, instead of when a user first asks.
ENV NUMBA_CACHE_DIR=/opt/tilewright/numba TILEWRIGHT_CACHE=/opt/tilewright/cache NUMBA_CPU_NAME=generic
RUN TILEWRIGHT_NO_CACHE=1 tilewright map resnet18:fc eyeriss > /dev/null \
  && TILEWRIGHT_NO_CACHE=1 tilewright map resnet18:fc eyeriss --imperfect > /dev/null \
  && chmod -R a+rwX /opt/tilewright
WORKDIR /work
ENTRYPOINT ["tilewright"]
CMD ["--help"]
