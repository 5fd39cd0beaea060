#!/usr/bin/env bash
# Rebuilds the prebuilt binaries. Needs gcc, Node's headers, and gcc-aarch64-linux-gnu for the second one.
set -euo pipefail
cd "$(dirname "$0")"
headers=$(node -p 'require("node:path").resolve(process.execPath, "../../include/node")')
mkdir -p prebuilds
flags=(-shared -fPIC -O2 -s -Wall -Wextra -I"$headers" shm.c)
gcc "${flags[@]}" -o prebuilds/linux-x64.node
# Pages of 16 KiB at most: with the default of 64 the file would be mostly padding.
if command -v aarch64-linux-gnu-gcc >/dev/null; then aarch64-linux-gnu-gcc -Wl,-z,max-page-size=16384 "${flags[@]}" -o prebuilds/linux-arm64.node; fi
ls -l prebuilds
