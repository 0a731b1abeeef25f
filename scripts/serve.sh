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
cmake --preset release >/dev/null
cmake --build build/release -j "$(nproc)" --target homeport
model=${MODEL:-$(scripts/model.sh)}

setsid nohup build/release/homeport serve --model "$model" --host "$host" --port "$port" >"$log" 2>&1 </dev/null &
pid=$!
for _ in $(seq 600); do
  kill -0 "$pid" 2>/dev/null || { tail -n 5 "$log" >&2; die "the server ended before it was ready; its log is $log"; }
  if python3 - "$host" "$port" <<'PY' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(f"http://{sys.argv[1]}:{sys.argv[2]}/ready", timeout=1)
PY
  then
    cat <<TXT
Ready: http://$host:$port/v1  (log: $log)

  curl http://$host:$port/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model":"default","messages":[{"role":"user","content":"What is the capital of France?"}]}'

Stop: kill $pid
TXT
    exit 0
  fi
  sleep 0.1
done
kill "$pid"
die "the server was not ready within 60 s; its log is $log"
