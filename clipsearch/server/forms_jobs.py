"""What the routes of jobs take and return."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from clipsearch.forms import MAX_KEY, MAX_KEYS
from clipsearch.present import encodable
from clipsearch.server.jobs import MAX_FAILED, Job, JobState, JobStatus


class JobRequest(BaseModel):
    """What to index."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"paths": ["/srv/photos"]}, {"rehash": True}, {}]}
    )

    paths: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_KEY)]],
        Field(max_length=MAX_KEYS, description="Absolute paths of folders; none for all folders of the library."),
    ] = []
    retry_failed: bool = Field(False, description="Try files again that failed before.")
    rehash: bool = Field(False, description="Read every file, even if its size and times say that it has not changed.")
    ocr: bool | None = Field(
        None, description="Whether text in pictures is recognised, now and from now on; null for what the library does."
    )


class FailedFile(BaseModel):
    """A file that could not be indexed."""

    path: str
    reason: str


class NotedFile(BaseModel):
    """A file that was indexed, or a table of captions that was read, though something is missing."""

    path: str
    note: str = Field(examples=["4.0% of its rows are missing"])


class JobReport(BaseModel):
    """What became of the files; what a job did before it was cancelled, too."""

    added: int
    changed: int
    moved: int
    removed: int
    unchanged: int
    encoded: int
    failures: int = Field(description="How many failed.")
    failed: list[FailedFile] = Field(description=f"The first {MAX_FAILED} that failed.")
    notes: list[NotedFile] = Field(description=f"The first {MAX_FAILED} files of which something is missing, and what.")
    passed_over: dict[str, int] = Field(
        description=f"How many files are of no kind that is indexed, by ending; the {MAX_FAILED} most frequent.",
        examples=[{".psb": 3}],
    )
    beside: int = Field(description="RAW files that count with their JPEGs.")
    live_photos: int = Field(description="Films of Live Photos that count with their pictures.")
    offline: list[str] = Field(description="Folders that could not be reached; what is known of them stays.")
    read: int = Field(description="Pictures whose text was recognised.")
    with_text: int = Field(description="How many of them have any.")
    seconds: float


class JobView(BaseModel):
    """A job."""

    id: str = Field(examples=["5f2b8c0d9e1a4f37"])
    state: JobState
    paths: list[str] = Field(description="Folders; none for all of the library.")
    started: datetime
    ended: datetime | None
    done: int = Field(description="Files that are done.")
    total: int | None = Field(description="Files to do; null until they are counted.")
    error: str | None = Field(description="Why it failed.")
    report: JobReport | None = Field(description="Of a job that is done or cancelled.")


class JobList(BaseModel):
    """The jobs since the server started, the latest first."""

    jobs: list[JobView]


def view(job: Job, status: JobStatus | None = None) -> JobView:
    """Describe a job, as it is now or was at one moment."""
    status = status or job.status
    report = status.report
    return JobView(
        id=job.id,
        state=status.state,
        paths=encodable(status.paths),
        started=status.started,
        ended=status.ended,
        done=status.done,
        total=status.total,
        error=encodable(status.error),
        report=None
        if report is None
        else JobReport(
            added=report.added,
            changed=report.changed,
            moved=report.moved,
            removed=report.removed,
            unchanged=report.unchanged,
            encoded=report.encoded,
            failures=status.failures,
            failed=[FailedFile(path=encodable(path), reason=encodable(reason)) for path, reason in report.failed],
            notes=[NotedFile(path=encodable(path), note=encodable(note)) for path, note in report.notes],
            passed_over=encodable(report.passed_over),
            beside=report.beside,
            live_photos=report.live_photos,
            offline=encodable(report.offline),
            read=report.read,
            with_text=report.with_text,
            seconds=report.seconds,
        ),
    )
