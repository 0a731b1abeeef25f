#!/usr/bin/env bash
# Installs what is missing, with the machine's own apt and pip: `build` for the program, `test` for the tests as well.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-build}

build_packages=(g++ cmake ninja-build make git ca-certificates libboost1.81-dev libssl-dev libsimdjson-dev libfmt-dev
  libspdlog-dev libcli11-dev libedit-dev libhiredis-dev libtomlplusplus-dev libexpected-dev libxxhash-dev libsqlite3-dev libgtest-dev libgmock-dev libbenchmark-dev
  ccache mold python3 python3-venv esbuild node-react-dom libjs-dygraphs libzstd-dev)
test_packages=(curl prometheus clang-format clang-tidy clang libclang-rt-14-dev openssl redis-server iproute2)

packages=("${build_packages[@]}")
[ "$what" = test ] && packages+=("${test_packages[@]}")

python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)

missing=()
installed=" $(dpkg-query -W -f='${Package}=${db:Status-Status} ' "${packages[@]}" 2>/dev/null || true)"
for p in "${packages[@]}"; do
  [[ $installed == *" $p=installed "* ]] || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  run=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "Missing packages: ${missing[*]}. Install them as root, then run this again." >&2; exit 1; }
    run=(sudo)
  fi
  echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
  "${run[@]}" apt-get update -qq || { echo "apt-get update failed: is there a network? Nothing was changed." >&2; exit 1; }
  DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    { echo "apt-get could not install: ${missing[*]}" >&2; exit 1; }
fi

# The console's tests drive a browser; where none can be had they are skipped and counted.
if [ "$what" = test ] && ! command -v chromium >/dev/null; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  echo "Installing chromium for the console's tests"
  { "${as_root[@]}" apt-get update -qq && DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq \
      --no-install-recommends chromium; } >/dev/null 2>&1 || echo "chromium could not be installed: tests of the console's pages are skipped" >&2
fi

if [ "$what" = test ]; then
  stamp=.venv/requirements.stamp
  if [ ! -f "$stamp" ] || ! cmp -s scripts/requirements-test.txt "$stamp"; then
    echo "Making .venv with the tests' Python packages"
    python3 -m venv .venv && .venv/bin/pip install -q --disable-pip-version-check -r scripts/requirements-test.txt ||
      { echo "pip could not install scripts/requirements-test.txt: is there a network?" >&2; exit 1; }
    cp scripts/requirements-test.txt "$stamp"
  fi
fi
