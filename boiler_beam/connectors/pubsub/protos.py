"""Pub/Sub's messages as plain protobuf classes, and the data of Firestore's events."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2, message_factory
from google.pubsub_v1 import types

from boiler_beam.connectors.firestore.protos import Document

__all__ = [
    "METHODS",
    "AcknowledgeRequest",
    "DocumentEventData",
    "GetSubscriptionRequest",
    "GetTopicRequest",
    "ModifyAckDeadlineRequest",
    "PublishRequest",
    "PubsubMessage",
    "PullRequest",
    "Subscription",
    "Topic",
]


def _plain(name: str) -> Any:
    return getattr(types, name).meta.pb


AcknowledgeRequest = _plain("AcknowledgeRequest")
GetSubscriptionRequest = _plain("GetSubscriptionRequest")
GetTopicRequest = _plain("GetTopicRequest")
ModifyAckDeadlineRequest = _plain("ModifyAckDeadlineRequest")
PublishRequest = _plain("PublishRequest")
PubsubMessage = _plain("PubsubMessage")
PullRequest = _plain("PullRequest")
Subscription = _plain("Subscription")
Topic = _plain("Topic")
_Empty = empty_pb2.Empty

METHODS: dict[str, tuple[str, Any, Any]] = {
    "Acknowledge": ("Subscriber", AcknowledgeRequest, _Empty),
    "CreateSubscription": ("Subscriber", Subscription, Subscription),
    "CreateTopic": ("Publisher", Topic, Topic),
    "GetSubscription": ("Subscriber", GetSubscriptionRequest, Subscription),
    "GetTopic": ("Publisher", GetTopicRequest, Topic),
    "ModifyAckDeadline": ("Subscriber", ModifyAckDeadlineRequest, _Empty),
    "Publish": ("Publisher", PublishRequest, _plain("PublishResponse")),
    "Pull": ("Subscriber", PullRequest, _plain("PullResponse")),
}
"""For each method its service, request and response. All methods are unary.

Source: https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1
"""


def _document_event_data() -> Any:
    """Returns the class `google.events.cloud.firestore.v1.DocumentEventData`, with the client library's documents.

    The documents of events have the same field numbers and names as those of the database, so that the package
    `google-events` with another copy of them is not needed.
    Source: https://github.com/googleapis/google-cloudevents, proto/google/events/cloud/firestore/v1/data.proto
    """
    document = Document.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="boiler_beam/document_event_data.proto",
        package="boiler_beam",
        syntax="proto3",
        dependency=[document.file.name],
    )
    data = file.message_type.add(name="DocumentEventData")
    for number, name in enumerate(("value", "old_value"), 1):
        data.field.add(
            name=name,
            number=number,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
            type_name=f".{document.full_name}",
        )
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("boiler_beam.DocumentEventData"))


DocumentEventData = _document_event_data()
