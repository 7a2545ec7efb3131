"""What whoever searches this library together with others asks: a protocol of clipsearch itself, not of the API."""

from __future__ import annotations

from fastapi import APIRouter, Response

from clipsearch.server import payloads
from clipsearch.server.service import TheService
from clipsearch.server.shards import ShardRequest, answer_shard

router = APIRouter(include_in_schema=False)


@router.post("/shard")
async def ask_shard(service: TheService, asked: ShardRequest) -> Response:
    """Answer one question about one state of the library."""
    return payloads.json_response(await service.run(answer_shard, service.part, asked))
