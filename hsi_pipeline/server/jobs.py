"""Jobs: which wait, which run, what became of them; what pygeoapi calls a process manager."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

from pygeoapi.process.base import BaseProcessor, JobNotFoundError
from pygeoapi.process.manager.base import BaseManager
from pygeoapi.util import JobStatus, RequestedProcessExecutionMode, get_current_datetime

from hsi_pipeline.server.confined import surroundings
from hsi_pipeline.server.folder import STATE, SharedFolder
from hsi_pipeline.server.job import DISMISSED, Job, outputs_of
from hsi_pipeline.server.limits import Limits
from hsi_pipeline.server.processes import PROCESSES, Work
from hsi_pipeline.server.records import ACTIVE, RecordFolder, new_record
from hsi_pipeline.server.refused import RefusedError

_JSON = "application/json"
_STOPPED = "the server was stopped while the job was at work; send the request again"


class Jobs(BaseManager):
    """All jobs of a server. `open` begins its work; before, it only describes processes."""

    def __init__(self, definition: dict[str, Any]) -> None:
        """Take pygeoapi's definition of a manager."""
        super().__init__(definition)
        self.is_async = True
        self._lock = threading.RLock()
        self._records: dict[str, dict[str, Any]] = {}
        self._active: dict[str, Job] = {}

    def open(self, folder: SharedFolder, limits: Limits, say: Callable[[str], None]) -> None:
        """Read what is known of earlier jobs, and take new ones.

        Args:
            folder: That requests may name files of.
            limits: Of this server.
            say: Told of jobs as they begin and end, in a line each.
        """
        self._folder, self._limits, self._say = folder, limits, say
        self._files = RecordFolder(folder.root / STATE / "jobs")
        self._records = {record["identifier"]: record for record in self._files.read()}
        self._threads = ThreadPoolExecutor(limits.jobs, thread_name_prefix="job")
        self._environment = surroundings()

    def close(self) -> None:
        """End all jobs."""
        with self._lock:
            jobs = list(self._active.values())
            for job in jobs:
                job.stopped = job.stopped or _STOPPED
        for job in jobs:
            self._stop(job)
        self._threads.shutdown()

    def get_processor(self, process_id: str) -> BaseProcessor:
        """Return the description of a process as pygeoapi wants it."""
        return BaseProcessor({"name": process_id}, PROCESSES[process_id].described(process_id))

    def execute_process(
        self,
        process_id: str,
        data_dict: dict[str, Any],
        execution_mode: RequestedProcessExecutionMode | None = None,
        requested_outputs: Mapping[str, Any] | None = None,
        subscriber: Any = None,
        requested_response: str | None = None,
    ) -> tuple[str, str, Any, JobStatus, dict[str, str] | None]:
        """Take a job, and wait for its end unless asked not to.

        Args:
            process_id: Name of the process.
            data_dict: Inputs of the request.
            execution_mode: Whether to wait.
            requested_outputs: Names of outputs to return; all if None.
            subscriber: Never one: requests with a callback are refused before.
            requested_response: "raw" gives one requested output as it is.

        Returns:
            Identifier, media type, outputs, state, and headers for the answer.

        Raises:
            RefusedError: The request is wrong or too much, or the job failed.
        """
        work = PROCESSES[process_id].prepare(process_id, data_dict, self._folder)
        job = self._accept(process_id, work)
        if execution_mode == RequestedProcessExecutionMode.respond_async:
            applied = {"Preference-Applied": execution_mode.value}
            return job.name, _JSON, None, JobStatus.accepted, applied
        job.ended.wait()
        outputs = outputs_of(job.record, requested_outputs, requested_response)
        return job.name, _JSON, outputs, JobStatus.successful, None

    def get_jobs(
        self, status: JobStatus | None = None, limit: int | None = None, offset: int | None = None
    ) -> dict[str, Any]:
        """Return records, newest first, and how many there are."""
        with self._lock:
            records = [dict(record) for record in reversed(self._records.values())]
        first = offset or 0
        shown = records[first : None if limit is None else first + limit]
        for record in shown:  # pygeoapi sorts by this
            record["started"] = record["started"] or record["created"]
        return {"jobs": shown, "numberMatched": len(records)}

    def get_job(self, job_id: str) -> dict[str, Any]:
        """Return the record of a job.

        Raises:
            JobNotFoundError: There is none.
        """
        with self._lock:
            if job_id not in self._records:
                raise JobNotFoundError
            return dict(self._records[job_id])

    def delete_job(self, job_id: str) -> bool:
        """End a job that has not ended, with all of its processes, and forget it.

        Raises:
            JobNotFoundError: There is none.
        """
        self.get_job(job_id)
        with self._lock:
            job = self._active.get(job_id)
            if job is not None:
                job.stopped = job.stopped or DISMISSED
        if job is not None:
            self._stop(job)
        with self._lock:
            self._records.pop(job_id, None)
            self._files.remove(job_id)
        return True

    def _accept(self, process: str, work: Work) -> Job:
        """Put a job behind the others.

        Raises:
            RefusedError: Too many wait, or another one works on the same files.
        """
        with self._lock:
            for other in self._active.values():
                self._check_apart(work, other)
            if len(self._active) >= self._limits.jobs + self._limits.waiting:
                raise RefusedError(
                    f"{len(self._active)} jobs run or wait already; try again when one has ended",
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "TooManyJobs",
                )
            record = new_record(str(uuid4()), process)
            job = Job(record, work, self._folder, self._files.write, self._lock)
            self._records[job.name] = record
            self._active[job.name] = job
            self._files.write(record)
            job.future = self._threads.submit(self._run, job)
            return job

    def _check_apart(self, work: Work, other: Job) -> None:
        """Refuse to write what another job reads or writes, or to read what it writes.

        Files of one stem share their styles, so they count as one.
        """
        theirs = other.work
        same = _stem(theirs.out) == _stem(work.out) or work.out in theirs.reads
        if same or theirs.out in work.reads:
            file = work.out if same else theirs.out
            raise RefusedError(
                f"job {other.name} is at work on {self._folder.shown(file)!r}; "
                "wait for it, dismiss it, or choose another name",
                HTTPStatus.CONFLICT,
                "JobConflict",
            )

    def _run(self, job: Job) -> None:
        """Run a job in a thread."""
        try:
            with self._lock:
                if not job.stopped:
                    job.start(self._limits, self._environment)
            if job.child is not None:
                self._say(f"job {job.name}: {job.work.arguments[0]} begins")
            end = job.wait(self._limits.seconds)
            job.finish(end)
            if end is not None and (job.record["fault"] or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._say(end.log)
        except Exception as error:  # of this program; the job must end all the same
            self._say(f"job {job.name}: {type(error).__name__}: {error}")
            job.fail(HTTPStatus.INTERNAL_SERVER_ERROR, "the server cannot run the job")
        finally:
            self._end(job)

    def _end(self, job: Job) -> None:
        """Let a job be one that has ended."""
        with self._lock:
            job.change(finished=get_current_datetime())
            self._active.pop(job.name, None)
            ended = [key for key, record in self._records.items() if record["status"] not in ACTIVE]
            for key in ended[: max(len(ended) - self._limits.kept, 0)]:
                del self._records[key]
                self._files.remove(key)
        self._say(f"job {job.name}: {job.record['status']}: {job.record['message']}")
        job.ended.set()

    def _stop(self, job: Job) -> None:
        """End a job that is to stop, and wait until it has ended."""
        if job.child is not None:
            job.child.end()
        elif job.future is not None and job.future.cancel():
            job.finish(None)
            self._end(job)
        job.ended.wait()


def _stem(path: Path) -> Path:
    return path.with_name(path.stem.lower())
