# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An upload in blocks from an iterator, in bounded memory; the blob exists from the moment its list is put.

Until then nothing stands under its name. Blocks that are never listed are discarded by the service a week
after the last of them (learn.microsoft.com/rest/api/storageservices/put-block-list); no request discards them.
"""

from __future__ import annotations

import base64
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from ..errors import OpsError
from . import refusals
from .azure_client import PATIENT_ATTEMPTS, PUT_BLOCK_LIST, Answer, AzureError, Client, md5

MIB = 1 << 20
THREADS = 3
MAX_BLOCKS = 50_000
# One block is filled while three are sent, and a buffer that grows may be copied.
_SHARES = THREADS + 3
MIN_BUDGET_BYTES = _SHARES * MIB
_TAKEN = {"BlobAlreadyExists", "ConditionNotMet", "UnauthorizedBlobOverwrite"}


def block_bytes(budget: int) -> int:
    """The size of a block for an upload that may hold ``budget`` bytes; with 96 MiB blobs grow to 781 GiB.

    :raises ValueError: less than :data:`MIN_BUDGET_BYTES`, which is a defect of the caller.
    """
    if budget < MIN_BUDGET_BYTES:
        raise ValueError(f"an upload needs {MIN_BUDGET_BYTES} bytes, not {budget}")
    return budget // _SHARES


def blocks(chunks: Iterator[bytes], size: int, most: int = MAX_BLOCKS) -> Iterator[bytearray]:
    """Cut a stream of bytes into blocks; a stream without a byte gives none.

    :raises OpsError: ``STORE_OBJECT_TOO_LARGE`` beyond the last block that a blob can have.
    """
    buffer = bytearray()
    number = 0
    for chunk in chunks:
        view = memoryview(chunk)
        while len(buffer) + len(view) > size:
            taken = size - len(buffer)
            buffer += view[:taken]
            view = view[taken:]
            number += 1
            if number == most:
                raise OpsError(
                    "STORE_OBJECT_TOO_LARGE",
                    f"The backup is larger than the {most} blocks of {size} bytes that a blob can have hold.",
                    "Use a physical backup for a database of this size.",
                )
            yield buffer
            buffer = bytearray()
        buffer += view
    if buffer:
        yield buffer


class Upload:
    """One upload: :meth:`send` the blocks, then :meth:`complete`.

    Whoever holds it must call :meth:`stop` when anything fails before :meth:`complete` returned.

    :param headers: what the blob is to have: tier, immutability policy.
    """

    def __init__(self, client: Client, name: str, headers: Mapping[str, str]) -> None:
        self._client = client
        self._name = name
        self._headers = headers
        # Ids of their own, so that two uploads under one name cannot mix their blocks.
        self._mark = uuid.uuid4().hex
        self._ids: list[str] = []
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="upload")
        self._running: set[Future[None]] = set()
        self._stopped = threading.Event()

    def send(self, data: bytearray) -> None:
        """Start sending a block; waits while as many as may be are under way."""
        self._collect(THREADS - 1)
        block = base64.b64encode(f"{self._mark}{len(self._ids):08d}".encode()).decode()
        self._ids.append(block)
        self._running.add(self._pool.submit(self._put, block, data))

    def complete(self) -> str:
        """Wait for all blocks, then make the blob exist; returns its ETag.

        :raises AzureError: the name is taken, among others.
        """
        self._collect(0)
        self._pool.shutdown()
        try:
            answer = self._commit("Uncommitted", {"If-None-Match": "*"})
        except AzureError as error:
            if error.code not in _TAKEN or not error.repeated:
                raise
            answer = self._prove_it_is_ours(error)
        return str(answer.headers.get("etag", "")).strip('"')

    def stop(self) -> None:
        """End the blocks under way: one that arrives later would prolong the week of the others."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _collect(self, left: int) -> None:
        while len(self._running) > left:
            finished, self._running = wait(self._running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()

    def _put(self, block: str, data: bytearray) -> None:
        answer = self._client.request(
            "Put Block",
            "PUT",
            self._name,
            {"comp": "block", "blockid": block},
            body=data,
            attempts=PATIENT_ATTEMPTS,
            given_up=self._stopped.is_set,
        )
        acknowledged(answer, data, self._name)

    def _commit(self, kind: str, condition: Mapping[str, str]) -> Answer:
        items = "".join(f"<{kind}>{block}</{kind}>" for block in self._ids)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{items}</BlockList>'.encode()
        answer = self._client.request(
            PUT_BLOCK_LIST,
            "PUT",
            self._name,
            {"comp": "blocklist"},
            {**self._headers, **condition, "x-ms-blob-content-type": "application/octet-stream"},
            body,
            attempts=PATIENT_ATTEMPTS,
        )
        acknowledged(answer, body, self._name)
        return answer

    def _prove_it_is_ours(self, error: AzureError) -> Answer:
        """The name is taken after an attempt without an answer: by us, or by another?

        This identity may not read. But it may put the list once more, of committed blocks: only the blob
        that this upload made has them, and it stays as it is.
        """
        if not self._ids:
            raise error
        try:
            return self._commit("Committed", {})
        except AzureError:
            raise error from None


def acknowledged(answer: Answer, data: bytes | bytearray, name: str) -> None:
    """Compare what the server says it received with what was sent.

    Azure answers with the digest it computed; a server that does not (Azurite, for blocks) has still
    compared the one that came with the request.

    :raises OpsError: ``STORE_TRANSFER_DAMAGED``.
    """
    received, sent = answer.headers.get("content-md5"), md5(data)
    if received and received != sent:
        raise refusals.other_bytes(name, "MD5", received, sent)
