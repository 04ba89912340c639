"""Jobs: processes that work beside the server, and what is known of them.

Owns: starting, stopping and watching workers. A worker that dies fails its own job and no other.

Non-goals: what a job does (`serve/worker.py`), who may ask for one (`serve/guard.py`).
"""

import asyncio
import contextlib
import json
import secrets
import signal
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

MOST_RUNNING, MOST_WAITING, MOST_KEPT = 2, 8, 40
"""Jobs that run at the same time, that wait, and that are remembered."""
_MOST_LINE = 64 * 2**20
_GRACE_SECONDS = 8.0


@dataclass(slots=True)
class Job:
    """One job: `state` is waiting, running, done, failed or stopped."""

    key: str
    request: Json
    state: str = "waiting"
    progress: Json = field(default_factory=lambda: {"share": 0.0, "text": "waiting"})
    problems: list[Json] = field(default_factory=list[Json])
    result: Json | None = None
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    task: "asyncio.Task[None] | None" = None
    process: asyncio.subprocess.Process | None = None
    wanted: bool = True

    def to_json(self) -> Json:
        """What a client sees of it, without the result."""
        return {
            "key": self.key,
            "state": self.state,
            "progress": self.progress,
            "problems": self.problems,
            "seconds": (self.ended or time.monotonic()) - self.started,
        }


class Jobs:
    """All jobs of a server."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._places = asyncio.Semaphore(MOST_RUNNING)

    def find(self, key: str) -> Job | None:
        """The job of that key."""
        return self._jobs.get(key)

    def start(self, request: Json) -> Job | None:
        """Start a job, or have it wait for its turn; `None` if too many wait already."""
        if sum(job.state == "waiting" for job in self._jobs.values()) >= MOST_WAITING:
            return None
        job = Job(secrets.token_hex(8), request)
        self._jobs[job.key] = job
        job.task = asyncio.create_task(self._run(job))
        self._forget()
        return job

    def _forget(self) -> None:
        ended = [key for key, job in self._jobs.items() if job.ended is not None]
        for key in ended[: max(0, len(self._jobs) - MOST_KEPT)]:
            del self._jobs[key]

    async def stop(self, job: Job) -> None:
        """Ask a job to end with what it has; it is killed if it does not."""
        job.wanted = False
        if job.process is None or job.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            job.process.send_signal(signal.SIGINT)
        asyncio.get_running_loop().call_later(_GRACE_SECONDS, _kill, job.process)

    async def close(self) -> None:
        """End all workers; the server is going."""
        tasks = [job.task for job in self._jobs.values() if job.task and job.ended is None]
        for job in self._jobs.values():
            job.wanted = False
            if job.process is not None:
                _kill(job.process)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        async with self._places:
            if job.wanted:
                job.state = "running"
                try:
                    await self._work(job)
                except (OSError, ValueError) as error:
                    job.problems = [
                        {"what": f"the worker broke off: {error}", "fix": "run it again"}
                    ]
                finally:
                    if job.process is not None:
                        _kill(job.process)
        job.ended = time.monotonic()
        job.state = _end_state(job)

    async def _work(self, job: Job) -> None:
        job.process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tilewright.serve.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_MOST_LINE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job.request).encode() + b"\n")
        process.stdin.close()
        async for line in process.stdout:
            await _take(job, line)
        code = await process.wait()
        if job.result is None and not job.problems:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            job.problems = [{"what": f"the worker {how}", "fix": "run it again"}]


async def _take(job: Job, line: bytes) -> None:
    """Note a line of a worker. A long one is read beside the server's own work."""
    message: Json = await asyncio.to_thread(json.loads, line)
    if "progress" in message:
        job.progress = message["progress"]
    elif "problems" in message:
        job.problems = message["problems"]
    else:
        job.result = message


def _end_state(job: Job) -> str:
    if job.result is not None:
        return "done"
    return "failed" if job.wanted else "stopped"


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
