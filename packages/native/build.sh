#!/usr/bin/env bash
# Rebuilds the prebuilt binaries, byte for byte: build.sh [TARGET_DIR] (default: prebuilds). Needs gcc and Node's headers; the other
# architecture needs its cross compiler (Debian: gcc-aarch64-linux-gnu, gcc-x86-64-linux-gnu) and is left as it is without one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "${1:-$here/prebuilds}" && cd "${1:-$here/prebuilds}" && pwd)
cd "$here"
headers=${NODE_HEADERS:-$(node -p 'require("node:path").resolve(process.execPath, "../../include/node")')}
[ -f "$headers/node_api.h" ] || { echo "Node's headers (node_api.h) are not in $headers: set NODE_HEADERS to their folder"; exit 1; }
size_max=$((64 * 1024))
status=0

build() { # name, triplet, page size
  local compiler=$2-gcc
  if [ "$(uname -m)" = "${2%%-*}" ]; then compiler=gcc; fi
  if ! command -v "$compiler" >/dev/null; then
    echo "$1: $compiler is missing (Debian: apt-get install gcc-${2//_/-}); left as it is"
    status=2
    return
  fi
  "$compiler" -shared -fPIC -O2 -pthread -s -Wall -Wextra -Werror -Wl,-z,max-page-size=$3 -Wl,--build-id=none -I"$headers" shm.c -o "$out/$1.node"
  local bytes
  bytes=$(stat -c %s "$out/$1.node")
  echo "$1: $bytes bytes"
  if [ "$bytes" -ge $size_max ]; then echo "$1: more than $size_max bytes"; exit 1; fi
}

build linux-x64 x86_64-linux-gnu 4096
# With the default of 64 KiB the file would be mostly padding.
build linux-arm64 aarch64-linux-gnu 16384
exit $status
