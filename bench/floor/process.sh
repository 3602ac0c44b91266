#!/bin/sh
# What the smallest Python program costs, as the floor for the command line and for the engine.
# Usage: process.sh PYTHON; prints "python SECONDS" (best of ten) and "aiohttp BYTES" (memory of an interpreter with the client loaded).
set -eu
python=$1
best=
for _ in 1 2 3 4 5 6 7 8 9 10; do
    start=$(date +%s%N)
    "$python" -c pass
    took=$(($(date +%s%N) - start))
    [ -n "$best" ] && [ "$best" -le "$took" ] || best=$took
done
echo "python $(echo "scale=4; $best / 1000000000" | bc)"
"$python" -c 'import aiohttp, msgspec, asyncio
print("aiohttp", next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmRSS")))'
