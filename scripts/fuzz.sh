#!/usr/bin/env bash
# Runs every libFuzzer target for FUZZ_SECONDS (default 300) each under ASan; stops at the first finding.
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset fuzz >/dev/null
cmake --build build/fuzz -j "$(nproc)"
found=0
for target in build/fuzz/*_fuzz; do
  [ -x "$target" ] || continue
  found=$((found + 1))
  name=$(basename "$target")
  mkdir -p "build/fuzz/corpus/$name"
  echo "== $name for ${FUZZ_SECONDS:-300} s"
  "$target" -max_total_time="${FUZZ_SECONDS:-300}" -rss_limit_mb=2048 -artifact_prefix="build/fuzz/" "build/fuzz/corpus/$name"
done
echo "$found fuzzers, no finding"
