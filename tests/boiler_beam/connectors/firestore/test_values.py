"""Every Firestore value is unchanged after it was written to the server and read back."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given, settings

from boiler_beam.connectors.firestore.client import Client, explained
from boiler_beam.connectors.firestore.protos import BatchGetDocumentsRequest, BatchWriteRequest, Document
from boiler_beam.connectors.firestore.values import fields_of, put_fields
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.values import decode_fields, encode_fields
from tests.helpers.values import fields

ROOT = "projects/p/databases/(default)/documents/"


@given(fields())
def test_fields_survive_protobuf(given_fields: dict[str, object]) -> None:
    document, data = Document(name=f"{ROOT}things/one"), encode_fields(given_fields)
    put_fields(document.fields, data, ROOT)
    assert encode_fields(decode_fields(fields_of(document))) == data


def test_fields_survive_the_server(firestore_emulator: str, project: str) -> None:
    client = Client(project)

    @settings(max_examples=40)
    @given(fields())
    def survives(given_fields: dict[str, object]) -> None:
        data = encode_fields(given_fields)
        request = BatchWriteRequest(database=client.database)
        request.writes.add().update.name = f"{client.root}things/one"
        put_fields(request.writes[0].update.fields, data, client.root)
        try:
            assert client.call("BatchWrite", request).status[0].code == 0
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:  # the names of some fields
                raise
            return
        get = BatchGetDocumentsRequest(database=client.database, documents=[f"{client.root}things/one"])
        (answer,) = client.call("BatchGetDocuments", get)
        assert encode_fields(decode_fields(fields_of(answer.found))) == data

    survives()
    client.close()


@pytest.mark.parametrize("address", ["", "P", "my_project", "my-project/", "my-project/a/b"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(UsageError, match="expected firestore:PROJECT or firestore:PROJECT/DATABASE, got"):
        Client(address)


def test_a_server_that_is_not_there() -> None:
    client = Client("some-project", {"FIRESTORE_EMULATOR_HOST": "127.0.0.1:1"})
    said = pytest.raises(BoilerBeamError, match=r"expected to write, got UNAVAILABLE: .*; fix: check the network")
    with said, explained(client.uri, "to write"):
        client.call("BatchWrite", BatchWriteRequest(database=client.database), timeout=5)
    client.close()
