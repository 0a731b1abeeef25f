#!/usr/bin/env bash
# Everything that a GPU machine shows, within a budget of seconds: tests, then speed, then profiles, each part on its own, so
# that a failure stops nothing else. Builds the plug-in unless build/cuda has it. usage: gpu_session.sh [SECONDS [LOGS]]
set -u
cd "$(dirname "$0")/.."
budget=${1:-900}
logs=${2:-build/gpu_session}
bin=${GPU_BIN:-build/cuda}
mkdir -p "$logs"
SECONDS=0
left() { echo $((budget - SECONDS)); }
# part NAME LIMIT COMMAND…: runs within its limit and what is left, keeps the whole log, prints the time and the result.
part() {
  local name=$1 limit=$2 rc=0 begin=$SECONDS
  shift 2
  [ "$(left)" -lt 5 ] && { echo "== $name: no time left"; return; }
  [ "$limit" -gt "$(left)" ] && limit=$(left)
  timeout -k 2 "$limit" "$@" >"$logs/$name.log" 2>&1 || rc=$?
  echo "== $name: rc $rc, $((SECONDS - begin)) s"
}
if ! [ -x "$bin/gpu_test" ]; then
  cmake -S cuda -B build/cuda >/dev/null && cmake --build build/cuda -j "$(nproc)" >"$logs/build.log" 2>&1
  bin=build/cuda
fi
nvidia-smi --query-gpu=name,driver_version,memory.used,clocks.sm --format=csv,noheader | tee "$logs/card.log"

# Tests side by side: they check bits, not time. Beside them the sanitizer looks for faults and races on a little of
# everything.
for group in sampling products models latent; do part "test_$group" 45 "$bin/gpu_test" "$group" & done
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
[ -n "$sanitizer" ] || echo "no compute-sanitizer here"
for tool in memcheck racecheck; do
  [ -n "$sanitizer" ] && part "$tool" 25 "$sanitizer" --tool "$tool" "$bin/gpu_test" few &
done
wait
[ -n "$sanitizer" ] && tail -n 2 "$logs/memcheck.log" "$logs/racecheck.log" | cut -c1-160
for group in sampling products models latent; do echo "$group: $(tail -n 1 "$logs/test_$group.log")"; done
grep -h FAILED "$logs"/test_*.log | cut -c1-200 | sort | uniq -c | head -n 30

bench() {
  local name=$1
  shift
  part "$name" 40 "$bin/gpu_bench" "$@"
  grep -v "^device memory" "$logs/$name.log"
}
# The table of docs/gpu.md; few users with and without what few tokens fuse (fusion.h: 31 kernels, + 32 attention folds,
# + 64 weights ahead with so many MiB, + 128 whole decodes).
export GPU_BENCH_QUICK=1
bench table_8b_fp8 r1-distill-llama-8b fp8 1 0,31,63,255:8,255,255:32 8
bench table_lite_fp8 v2-lite fp8 1 31,63,255:8,255,255:32,511 8
bench table_8b_bf16 r1-distill-llama-8b bf16 1 0,31,255 8
bench table_lite_bf16 v2-lite bf16 1 31,255,255:32 8
bench many_lite_bf16 v2-lite bf16 256 127,255 2048
bench many_8b_bf16 r1-distill-llama-8b bf16 256 255 2048
bench many_8b_fp8 r1-distill-llama-8b fp8 2,256 255 2048
bench many_lite_fp8 v2-lite fp8 2,8,256 255 2048
bench table_67b_fp8 deepseek-67b fp8 1 31,255 512,2048
bench v3_stack_fp8 v3-stack fp8 1,8,64 255 512
bench many_67b_fp8 deepseek-67b fp8 64,128 255 8

# Where one step's time goes: the length of every kernel of some layers, alone (no overlap).
if command -v ncu >/dev/null; then
  for shape in v2-lite r1-distill-llama-8b; do
    part "kernels_$shape" 25 ncu --clock-control none --graph-profiling node --metrics gpu__time_duration.sum \
      --launch-skip 4500 --launch-count 24 --csv "$bin/gpu_bench" "$shape" fp8 1 255 8
    python3 - "$logs/kernels_$shape.log" <<'PY'
import csv, re, sys
rows = [r for r in csv.reader(l for l in open(sys.argv[1], errors="replace") if l.startswith('"'))]
if len(rows) > 1:
    head = rows[0]
    name, value = head.index("Kernel Name"), head.index("Metric Value")
    for r in rows[1:]:
        print(re.sub(r".*::|\(.*", "", r[name])[:60], r[value])
PY
  done
fi
echo "== done in $SECONDS s"
