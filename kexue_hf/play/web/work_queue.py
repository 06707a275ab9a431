"""Jobs in a few threads, of which a bounded number waits."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from kexue_hf.play.web.request_errors import RequestError

_Result = TypeVar("_Result")


class WorkQueue:
    """Runs jobs in the order in which they come. Its methods are called on the event loop only.

    Args:
        threads: jobs that run at a time.
        most: jobs that run or wait. One that is no longer wanted counts until its turn, when it should end at once.
    """

    def __init__(self, threads: int, most: int) -> None:
        self._most, self._jobs = most, 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="thinking")

    def submit(self, job: Callable[[], _Result]) -> "asyncio.Future[_Result]":
        """Return the future result of a job. Do not cancel it: the job would still be in the queue.

        Raises:
            RequestError: too many jobs are waiting (429).
        """
        if self._jobs >= self._most:
            raise RequestError(429, "busy", f"{self._jobs} requests are waiting for the model; ask again in a moment")
        future = asyncio.get_running_loop().run_in_executor(self._pool, job)
        self._jobs += 1
        future.add_done_callback(self._finish)
        return future

    def close(self) -> None:
        """Drop the jobs that wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _finish(self, future: "asyncio.Future[Any]") -> None:
        self._jobs -= 1
