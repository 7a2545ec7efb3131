"""A server that speaks Milvus's protocol and answers every search with what it is given to say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

Answer = Callable[[int, int], tuple[list[list[int]], list[list[float]]]]
"""Takes the number of queries and the limit; gives row numbers and distances for each query."""


class HostileMilvus(milvus_pb2_grpc.MilvusServiceServicer):
    """Has every collection, with the description and the number of rows that are expected."""

    def __init__(self, dim: int, rows: int, description: str) -> None:
        self.dim, self.rows, self.description = dim, rows, description
        self.answer: Answer = lambda queries, limit: ([], [])
        self.searches = 0
        self.pause = 0.0
        self.counts: list[int] = []
        self.ended = threading.Event()

    def Connect(self, request: Any, context: Any) -> Any:
        return milvus_pb2.ConnectResponse(status=common_pb2.Status())

    def DescribeCollection(self, request: Any, context: Any) -> Any:
        vector = schema_pb2.FieldSchema(
            fieldID=101,
            name="vector",
            data_type=schema_pb2.FloatVector,
            type_params=[common_pb2.KeyValuePair(key="dim", value=str(self.dim))],
        )
        row = schema_pb2.FieldSchema(fieldID=100, name="row", is_primary_key=True, data_type=schema_pb2.Int64)
        schema = schema_pb2.CollectionSchema(
            name=request.collection_name, description=self.description, fields=[row, vector]
        )
        return milvus_pb2.DescribeCollectionResponse(status=common_pb2.Status(), schema=schema, collectionID=1)

    def GetLoadState(self, request: Any, context: Any) -> Any:
        return milvus_pb2.GetLoadStateResponse(status=common_pb2.Status(), state=common_pb2.LoadStateLoaded)

    def Query(self, request: Any, context: Any) -> Any:
        count = schema_pb2.FieldData(
            type=schema_pb2.Int64,
            field_name="count(*)",
            scalars=schema_pb2.ScalarField(long_data=schema_pb2.LongArray(data=[self.rows])),
        )
        return milvus_pb2.QueryResults(status=common_pb2.Status(), fields_data=[count], output_fields=["count(*)"])

    def Search(self, request: Any, context: Any) -> Any:
        self.searches += 1
        self.ended.wait(self.pause)
        limit = next(int(each.value) for each in request.search_params if each.key == "topk")
        ids, distances = self.answer(request.nq, limit)
        results = schema_pb2.SearchResultData(
            num_queries=len(ids),
            top_k=limit,
            topks=self.counts or [len(each) for each in ids],
            ids=schema_pb2.IDs(int_id=schema_pb2.LongArray(data=[number for each in ids for number in each])),
            scores=[distance for each in distances for distance in each],
        )
        return milvus_pb2.SearchResults(status=common_pb2.Status(), results=results)


@contextmanager
def serving(hostile: HostileMilvus) -> Iterator[str]:
    """Serve on a free port of this machine; gives the address."""
    server = grpc.server(ThreadPoolExecutor(4))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(hostile, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        hostile.ended.set()
        server.stop(0).wait()
