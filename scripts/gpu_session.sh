#!/usr/bin/env bash
# What a GPU machine shows, each part on its own, so that a failure stops nothing else. Needs nvcc and python3 with numpy;
# no network. usage: gpu_session.sh test|bench|profile|all [SECONDS [LOGS]]
#   test     bits and draws of the kernels, memcheck and racecheck where compute-sanitizer is, goldens through --device cuda
#   bench    docs/gpu.md's table: LOGS/table.md and LOGS/table.json, targets beside what was measured
#   profile  the length of every kernel of a layer, where ncu is
# The goldens, the start-up and the host's part of a step need the program: build/gpu, which `make gpu-bundle` makes on a
# machine that can build it. GPU_DRY=1 runs everything with stand-ins for the programs of the GPU (tests/deploy).
set -u
cd "$(dirname "$0")/.."
what=${1:-all}
budget=${2:-900}
logs=${3:-build/gpu_session}
bin=${GPU_BIN:-build/cuda}
bundle=${GPU_BUNDLE:-build/gpu}
device=${GPU_DEVICE:-cuda}
mkdir -p "$logs"
SECONDS=0
failed=0
left() { echo $((budget - SECONDS)); }
# part NAME LIMIT COMMAND…: runs within its limit and what is left, keeps the whole log, prints the time and the result.
part() {
  local name=$1 limit=$2 rc=0 begin=$SECONDS
  shift 2
  [ "$(left)" -lt 5 ] && { echo "== $name: no time left"; return 1; }
  [ "$limit" -gt "$(left)" ] && limit=$(left)
  timeout -k 2 "$limit" "$@" >"$logs/$name.log" 2>&1 || rc=$?
  echo "== $name: rc $rc, $((SECONDS - begin)) s"
  return "$rc"
}
wants() { [ "$what" = all ] || [ "$what" = "$1" ]; }
# with_program NAME LIMIT COMMAND…: a part that needs the bundle; says what is missing where it is not.
with_program() {
  [ -x "$bundle/logits_tool" ] || { echo "== $1: skipped, $bundle is not here: make gpu-bundle where the program can be built"; return 0; }
  LD_LIBRARY_PATH="$bundle/lib" part "$@" || failed=1
  tail -n 3 "$logs/$1.log" | cut -c1-200
}

case $what in test | bench | profile | all) ;; *) sed -n 2,8p "$0" >&2; exit 2 ;; esac
if ! [ -x "$bin/gpu_test" ]; then
  cmake -S cuda -B build/cuda >/dev/null && cmake --build build/cuda -j "$(nproc)" >"$logs/build.log" 2>&1 ||
    { tail -n 20 "$logs/build.log" 2>/dev/null; echo "the plug-in could not be built: is nvcc there?" >&2; exit 1; }
  bin=build/cuda
fi
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.used,clocks.sm --format=csv,noheader | tee "$logs/card.log"

# Tests side by side: they check bits, not time. Beside them the sanitizer looks for faults and races on a little of
# everything.
if wants test; then
  groups="sampling products attention ints models latent kv" jobs=()
  for group in $groups; do part "test_$group" 90 "$bin/gpu_test" "$group" & jobs+=($!); done
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  checks=""
  if [ -n "$sanitizer" ]; then
    checks="memcheck racecheck"
    part memcheck 60 "$sanitizer" --tool memcheck --error-exitcode 9 "$bin/gpu_test" few & jobs+=($!)
    part racecheck 60 "$sanitizer" --tool racecheck --error-exitcode 9 "$bin/gpu_test" tiny & jobs+=($!)
  else
    echo "== memcheck, racecheck: skipped, no compute-sanitizer here"
  fi
  for job in "${jobs[@]}"; do wait "$job" || failed=1; done
  for group in $groups; do echo "$group: $(tail -n 1 "$logs/test_$group.log")"; done
  for check in $checks; do tail -n 2 "$logs/$check.log" | cut -c1-160; done
  grep -h FAILED "$logs"/test_*.log | cut -c1-200 | sort | uniq -c | head -n 30
  # The binding of several GPUs' library, where it is (NCCL=FILE, else as the loader finds it); 77: nothing to test with.
  with_program nccl 60 sh -c '"$0" ${NCCL:+"$NCCL"} || { [ $? -eq 77 ] && echo skipped; }' "$bundle/nccl_tool"
  with_program goldens 300 python3 tests/golden/gpu_goldens.py --device "$device" --tool "$bundle/logits_tool"
fi

bench() {
  local name=$1
  shift
  part "bench_$name" 60 "$bin/gpu_bench" "$@" || failed=1
  grep -v "^device memory" "$logs/bench_$name.log"
}
# Users, variants (fusions of a step of few tokens, fusion.h; default: as the product; free: without the rule of the same
# bits), prompts. What the rule and what each fusion costs or brings, interleaved.
if wants bench; then
  part bench_ceiling 30 "$bin/gpu_bench" ceiling || failed=1
  export GPU_BENCH_QUICK=1
  bench 67b_fp8_few deepseek-67b fp8 1 default 512,2048
  bench 67b_fp8_many deepseek-67b fp8 64,128 default 8
  bench 8b_bf16 r1-distill-llama-8b bf16 1,256 default,default:free 2048
  bench 8b_fp8 r1-distill-llama-8b fp8 1,256 default,default:free 2048
  bench 8b_int8 r1-distill-llama-8b int8 1,256 default 2048
  bench 8b_int4 r1-distill-llama-8b int4 1,256 default 2048
  bench lite_int4 v2-lite int4 1,256 default 2048
  bench lite_fp8 v2-lite fp8 1,256 default,default:free 2048
  bench lite_bf16 v2-lite bf16 1,256 default 2048
  bench v3_stack_fp8 v3-stack fp8 1,8,64 default 512
  for kv in bf16 fp8; do  # of the KV cache, where it matters: many users, long contexts
    bench "kv_${kv}_8b" r1-distill-llama-8b fp8 64,256 default 8 "$kv" 2048
    bench "kv_${kv}_8b_long" r1-distill-llama-8b fp8 1,32 default 8 "$kv" 8000
    bench "kv_${kv}_lite" v2-lite fp8 64,256 default 8 "$kv" 4096
  done
  bench fusions_8b_fp8 r1-distill-llama-8b fp8 1 0,31,159,default 8
  bench fusions_lite_fp8 v2-lite fp8 1 0,31,159,default 8
  unset GPU_BENCH_QUICK
  with_program startup 120 python3 scripts/gpu_startup.py --device "$device" --tool "$bundle/logits_tool" ${GPU_DRY:+--layers 1 --small}
  with_program host_step 60 "$bundle/engine_bench" --benchmark_format=csv
  python3 scripts/gpu_table.py "$logs" || failed=1
fi

# Where one step's time goes: the length of every kernel of some layers, alone (no overlap).
if wants profile; then
  command -v ncu >/dev/null || echo "== profile: skipped, no ncu here"
  command -v ncu >/dev/null && for shape in v2-lite r1-distill-llama-8b; do
    part "kernels_$shape" 40 ncu --clock-control none --graph-profiling node --metrics gpu__time_duration.sum \
      --launch-skip 4500 --launch-count 24 --csv "$bin/gpu_bench" "$shape" fp8 1 default 8
    python3 scripts/gpu_table.py --kernels "$logs/kernels_$shape.log"
  done
fi
echo "== done in $SECONDS s"
exit "$failed"
