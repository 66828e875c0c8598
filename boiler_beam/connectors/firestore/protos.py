"""Firestore's messages as plain protobuf classes, which are several times as fast as the client library's wrappers."""

from __future__ import annotations

from typing import Any

from google.cloud.firestore_v1 import types
from google.protobuf.empty_pb2 import Empty

__all__ = [
    "METHODS",
    "BatchGetDocumentsRequest",
    "BatchWriteRequest",
    "BeginTransactionRequest",
    "CommitRequest",
    "Document",
    "ListCollectionIdsRequest",
    "ListenRequest",
    "ListenResponse",
    "PartitionQueryRequest",
    "RollbackRequest",
    "RunQueryRequest",
    "Value",
    "Write",
]


def _plain(name: str) -> Any:
    return getattr(types, name).meta.pb


BatchGetDocumentsRequest = _plain("BatchGetDocumentsRequest")
BatchWriteRequest = _plain("BatchWriteRequest")
BeginTransactionRequest = _plain("BeginTransactionRequest")
CommitRequest = _plain("CommitRequest")
Document = _plain("Document")
ListCollectionIdsRequest = _plain("ListCollectionIdsRequest")
ListenRequest = _plain("ListenRequest")
ListenResponse = _plain("ListenResponse")
PartitionQueryRequest = _plain("PartitionQueryRequest")
RollbackRequest = _plain("RollbackRequest")
RunQueryRequest = _plain("RunQueryRequest")
Value = _plain("Value")
Write = _plain("Write")

METHODS: dict[str, tuple[str, Any, Any]] = {
    "BatchGetDocuments": ("unary_stream", BatchGetDocumentsRequest, _plain("BatchGetDocumentsResponse")),
    "BatchWrite": ("unary_unary", BatchWriteRequest, _plain("BatchWriteResponse")),
    "BeginTransaction": ("unary_unary", BeginTransactionRequest, _plain("BeginTransactionResponse")),
    "Commit": ("unary_unary", CommitRequest, _plain("CommitResponse")),
    "ListCollectionIds": ("unary_unary", ListCollectionIdsRequest, _plain("ListCollectionIdsResponse")),
    "Listen": ("stream_stream", ListenRequest, ListenResponse),
    "PartitionQuery": ("unary_unary", PartitionQueryRequest, _plain("PartitionQueryResponse")),
    "Rollback": ("unary_unary", RollbackRequest, Empty),
    "RunQuery": ("unary_stream", RunQueryRequest, _plain("RunQueryResponse")),
}
"""For each method its kind of call, its request and its response.

Source: https://firebase.google.com/docs/firestore/reference/rpc/google.firestore.v1
"""
