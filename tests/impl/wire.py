"""Reading what the server sends: messages and the reports in them."""

import struct

from pglife_impl.protocol import Report, Severity


def split(data: bytes) -> list[tuple[str, bytes]]:
    """Split the bytes of the server into messages: type letter and body."""
    messages = []
    while data:
        length = struct.unpack_from("!i", data, 1)[0]
        messages.append((chr(data[0]), data[5 : length + 1]))
        data = data[length + 1 :]
    return messages


def parse_report(body: bytes) -> Report:
    """Return the report in the body of an ErrorResponse or NoticeResponse."""
    fields = {
        chr(part[0]): part[1:].decode("utf-8", "surrogateescape")
        for part in body.split(b"\0")
        if part
    }
    return Report(
        Severity(fields["V"]),
        fields["C"],
        fields["M"],
        fields.get("D", ""),
        fields.get("H", ""),
        int(fields["P"]) if "P" in fields else None,
        fields.get("W", ""),
    )
