"""Partitions beyond a worker's memory: split on disk by a second hash, and taken one part after the other.

Source: Grace hash join, Kitsuregawa et al. 1983.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from boiler_beam.steps.hash_join.messages import decode_pack, encode_packs

__all__ = ["messages_within"]


def messages_within(packs: Iterable[bytes], limit_bytes: int, salt: int = 1) -> Iterator[Iterable[Any]]:
    """The messages of a partition, in parts whose packs hold at most about `limit_bytes`.

    What belongs together (one document, one row) comes in one part. A partition that fits comes as one, and never
    touches the disk.

    Args:
        packs: The partition's packs, read once.
        limit_bytes: The share of memory of one part, in bytes of packs.
        salt: Tells this split's hash from the one before.
    """
    held: list[bytes] = []
    total = 0
    rest = iter(packs)
    for pack in rest:
        held.append(pack)
        total += len(pack)
        if total > limit_bytes:
            break
    else:
        yield (message for pack in held for message in decode_pack(pack))
        return
    with tempfile.TemporaryDirectory(prefix="boiler_beam") as folder:
        parts = 16
        files = [open(f"{folder}/{part}", "w+b") for part in range(parts)]  # noqa: SIM115
        try:
            for source in (held, rest):
                for pack in source:
                    _split(pack, files, salt)
            held.clear()
            for file in files:
                if file.tell() < total:  # else one hot key's part is as large as the whole: splitting does not help
                    yield from messages_within(_read(file), limit_bytes, salt + 1)
                else:
                    yield (message for pack in _read(file) for message in decode_pack(pack))
        finally:
            for file in files:
                file.close()


def _split(pack: bytes, files: Sequence[BinaryIO], salt: int) -> None:
    parts: dict[int, list[Any]] = {}
    for message in decode_pack(pack):
        for part, some in message.parts(len(files), salt):
            parts.setdefault(part, []).append(some)
    for part, messages in parts.items():
        for data in encode_packs(messages):
            files[part].write(len(data).to_bytes(8, "big") + data)


def _read(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while header := file.read(8):
        yield file.read(int.from_bytes(header, "big"))
