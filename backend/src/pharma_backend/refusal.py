# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer to bytes that are no HTTP request: a problem with a request id, and a line of the log."""

from __future__ import annotations

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from . import context, log, requestid

STATUS = 400


class RefusingProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose parse errors are answered like any other: nothing of the bytes is repeated."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the signature of uvicorn
        """Answer, write the line, close the connection."""
        request = context.RequestContext(requestid.make(), scope={})
        document = {
            "type": "urn:pharma:problem:request-malformed",
            "title": "The request is not valid HTTP",
            "status": STATUS,
            "code": "REQUEST_MALFORMED",
            "requestId": request.request_id,
        }
        body = orjson.dumps(document)
        head = (
            f"HTTP/1.1 {STATUS} Bad Request\r\n"
            "content-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-request-id: {request.request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
        log.refused(request, STATUS)
