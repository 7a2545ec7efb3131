"""Routes of jobs: what runs the indexer, and tells how far it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from clipsearch.server import events
from clipsearch.server.access import require_write
from clipsearch.server.forms_jobs import JobList, JobRequest, JobView, view
from clipsearch.server.jobs import FolderRefusedError, Job, JobConflictError, JobOptions, Jobs, JobStatus
from clipsearch.server.problems import Problem, of_error
from clipsearch.server.sending import LONG, BusyError
from clipsearch.server.service import TheService

MAX_LISTENERS = 64
"""Streams of events at a time."""

router = APIRouter(tags=["jobs"])

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such job."}}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            events.MEDIA_TYPE: {
                "schema": {"type": "string"},
                "example": 'id: 3\nevent: progress\ndata: {"id": "5f2b8c0d9e1a4f37", "done": 64}\n\n',
            }
        },
        "description": "`progress` for each batch, then `end`; the data of each is the job as GET gives it.",
    },
    204: {"description": "The job has ended, and the client has seen that."},
}


async def get_jobs(request: Request) -> Jobs:
    """Return the jobs of the application of a request."""
    jobs: Jobs = request.app.state.jobs
    return jobs


async def get_job(job_id: str, jobs: Annotated[Jobs, Depends(get_jobs)]) -> Job:
    """Return the job that a request names."""
    if job := jobs.get(job_id):
        return job
    raise HTTPException(404, f"There is no job {job_id!r:.80}. GET /v1/jobs lists those since the server started.")


TheJobs = Annotated[Jobs, Depends(get_jobs)]
TheJob = Annotated[Job, Depends(get_job)]


@router.post(
    "/jobs",
    status_code=202,
    dependencies=[Depends(require_write)],
    responses={
        403: {"model": Problem, "description": "Jobs may not index that folder, or the server only reads."},
        409: {"model": Problem, "description": "A job is running."},
        503: {"model": Problem, "description": "The library was replaced, or cannot be read in time."},
    },
)
async def start_job(asked: JobRequest, service: TheService, jobs: TheJobs, response: Response) -> JobView:
    """Index folders, or bring all folders of the library up to date. One job runs at a time."""
    try:
        job = await service.run(jobs.start, asked.paths, JobOptions(asked.retry_failed, asked.ocr, asked.rehash))
    except FolderRefusedError as error:
        raise HTTPException(403, str(error)) from error
    except JobConflictError as error:
        raise HTTPException(409, str(error)) from error
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return view(job)


@router.get("/jobs")
async def list_jobs(jobs: TheJobs) -> JobList:
    """List the jobs since the server started, the latest first."""
    return JobList(jobs=[view(job) for job in jobs.all()])


@router.get("/jobs/{job_id}", responses=_UNKNOWN)
async def show_job(job: TheJob) -> JobView:
    """Show a job."""
    return view(job)


@router.delete("/jobs/{job_id}", dependencies=[Depends(require_write)], responses=_UNKNOWN)
async def cancel_job(job: TheJob) -> JobView:
    """Cancel a job: it ends after the batch under way, and what is committed stays. One that has ended stays ended."""
    job.cancel()
    return view(job)


@router.get("/jobs/{job_id}/events", response_class=StreamingResponse, responses=_UNKNOWN | _STREAM)
async def follow_job(
    job: TheJob,
    jobs: TheJobs,
    service: TheService,
    last_event_id: Annotated[int, Header(alias="Last-Event-ID", ge=0)] = 0,
) -> Response:
    """Follow a job by server-sent events, up to its end. `Last-Event-ID` goes on after that event."""
    if job.status.is_over and not job.events(last_event_id):
        return Response(status_code=204)
    stream = events.job_events(job, last_event_id, service.stopping, _payload)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return _Followed(jobs, stream, media_type=events.MEDIA_TYPE, headers=headers)


class _Followed(StreamingResponse):
    """A stream that counts as a listener as long as it is sent, however that ends."""

    def __init__(self, jobs: Jobs, stream: AsyncIterator[bytes], **options: Any) -> None:  # noqa: ANN401
        super().__init__(stream, **options)
        self._jobs = jobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._jobs.listeners >= MAX_LISTENERS:
            detail = f"{MAX_LISTENERS} clients follow jobs. Ask for the job itself: GET /v1/jobs/ID"
            return await of_error(BusyError(detail, LONG))(scope, receive, send)
        self._jobs.listeners += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._jobs.listeners -= 1


def _payload(job: Job, status: JobStatus) -> object:
    return view(job, status).model_dump(mode="json")
