"""The floor of an engine at rest: a program with the same client library and as many open watches, on which nothing happens.

Usage: idle.py KUBECONFIG WATCHES SECONDS; prints "aiohttp BYTES" (resident memory) and "idle PERCENT" (of one processor).
"""

import asyncio
import sys
import time
from pathlib import Path

import aiohttp
from probe import Api

SETTLE_S = 3.0


async def idle(api: Api, watches: int, seconds: float) -> None:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=api.tls, limit=0), timeout=aiohttp.ClientTimeout(total=None)) as session,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(watch(session, f"{api.url}/api/v1/namespaces?watch=1")) for _ in range(watches)]
        await asyncio.sleep(SETTLE_S)
        before = time.process_time()
        await asyncio.sleep(seconds)
        print("idle", (time.process_time() - before) / seconds * 100)
        print("aiohttp", resident_bytes())
        for task in tasks:
            task.cancel()


async def watch(session: aiohttp.ClientSession, url: str) -> None:
    async with session.get(url) as answer:
        answer.raise_for_status()
        async for _ in answer.content:
            pass


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    asyncio.run(idle(Api(Path(sys.argv[1]).read_text()), int(sys.argv[2]), float(sys.argv[3])))
