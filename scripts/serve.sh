#!/usr/bin/env bash
# make serve: dependencies, release build, default model, server; waits until it is ready, then prints how to use and stop it.
set -euo pipefail
cd "$(dirname "$0")/.."
host=127.0.0.1
port=${PORT:-8000}
log=build/serve.log
die() { echo "homeport: $*" >&2; exit 1; }

if (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; then
  die "port $port is in use; stop what listens there, or choose another: make serve PORT=8001"
fi
scripts/install_deps.sh build
[ -f build/release/build.ninja ] || cmake --preset release >/dev/null || die "cmake could not configure the build; its lines above say why"
cmake --build build/release -j "$(nproc)" --target homeport -- --quiet ||
  die "the build failed; the first error above says where. A full disk? $(df -Ph . | awk 'NR==2 {print $4}') are free here"
model=${MODEL:-$(scripts/model.sh)}

ready() {
  local line
  exec 3<>"/dev/tcp/$host/$port" || return 1
  printf 'GET /ready HTTP/1.0\r\n\r\n' >&3
  read -r -t 1 line <&3
  exec 3>&-
  [[ $line == *" 200 "* ]]
}
setsid nohup build/release/homeport serve --model "$model" --host "$host" --port "$port" >"$log" 2>&1 </dev/null &
pid=$!
for _ in $(seq 1200); do
  kill -0 "$pid" 2>/dev/null || die "the server ended before it was ready: $(tail -n 1 "$log"). Its log is $log"
  if ready 2>/dev/null
  then
    cat <<TXT
Ready: http://$host:$port/v1  (log: $log)

  curl http://$host:$port/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model":"default","temperature":0,"messages":[{"role":"user","content":"What is the capital of France?"}]}'

Stop: kill $pid
TXT
    exit 0
  fi
  sleep 0.05
done
kill "$pid"
die "the server was not ready within 60 s; its log is $log"
