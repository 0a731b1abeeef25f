#!/usr/bin/env bash
# Runs the GPU benchmark over the shapes that docs/performance.md lists, one process each so that memory is given back.
set -euo pipefail
cd "$(dirname "$0")/.."
bench=build/cuda/gpu_bench
"$bench" deepseek-67b fp8 1,64,128
"$bench" r1-distill-llama-8b bf16
"$bench" r1-distill-llama-8b fp8
"$bench" r1-distill-qwen-1.5b bf16
"$bench" r1-distill-qwen-7b fp8
