#!/usr/bin/env bash
# build/gpu: the program and the tools of the GPU tests with the libraries that they need, to be copied to a GPU machine
# that cannot build them (there: `make gpu-test`, `make gpu-bench`). Runs wherever glibc and libstdc++ are not older than here.
set -euo pipefail
cd "$(dirname "$0")/.."
out=build/gpu
cmake --preset release >/dev/null
cmake --build build/release -j "${JOBS:-$(nproc)}" --target homeport logits_tool nccl_tool engine_bench
rm -rf "$out" && mkdir -p "$out/lib" "$out/fake_gpu"
for program in homeport logits_tool nccl_tool engine_bench; do strip --strip-debug -o "$out/$program" "build/release/$program"; done
cp build/release/fake_gpu/libhomeport_cuda.so "$out/fake_gpu"  # what engine_bench runs on
# All shared libraries but those of the C and C++ compilers: the plug-in, built there, needs that machine's own.
for program in homeport logits_tool nccl_tool engine_bench; do ldd "build/release/$program"; done |
  awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
  grep -Ev '/(libc|libm|libstdc\+\+|libgcc_s|libdl|libpthread|librt|libresolv|libutil|ld-linux[^/]*)\.so' | xargs -I{} cp -L {} "$out/lib"
# The GPU plug-in is looked for beside the program.
ln -sf ../cuda/libhomeport_cuda.so "$out/libhomeport_cuda.so"
du -sh "$out"
