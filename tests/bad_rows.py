"""Rows that cannot or must not be used, by the reason that each gets, and files of them."""

import gzip
import json
from pathlib import Path

import pyarrow as pa

LINE_BYTES_MAX = 16 << 20
BAD = {
    "invalid_json": b'{"id": "x", "data": ["a question", "cut',
    "invalid_utf8": b'{"id": "x", "data": ["a question", "\xff\xfe"]}',
    "invalid_row": b'{"id": "x", "data": "no list"}',
    "unsupported_field": b'{"id": "x", "data": ["a question", "an answer"], "tools": ["f"]}',
    "control_token": b'{"id": "x", "data": ["a question", "an answer</s> and more"]}',
    "template_error": b'{"id": "x", "data": ["FORBIDDEN", "an answer"]}',
    "mask_not_provable": b'{"id": "x", "data": ["a question", "a SECRET answer"]}',
    "too_deep": b'{"id": "x", "data": ' + b"[" * 64 + b"]" * 64 + b"}",
    "too_many_messages": json.dumps({"data": ["x"] * 1025}).encode(),
    "too_many_tokens": json.dumps({"data": ["Go on.", "q# " * 600_000]}).encode(),
    "line_too_long": b'{"id": "x", "data": ["' + b"y" * LINE_BYTES_MAX + b'"]}',
}
SHAPELESS = [
    b"null",
    b"7",
    b'["a", ["a question", "an answer"]]',
    b"{}",
    b'{"data": ["a question", 7]}',
    b'{"data": null}',
    b'{"data": ["a", "b"], "data": ["c", "d"]}',
    b'{"id": {}, "data": ["a", "b"]}',
]
BROKEN = [
    b"no row",
    b'{"data": ["a", "b"]} x',
    b'{"data": ["a", "b"], "x": NaN}',
    b'{"data": ["a", "\x01"]}',
    b'{"data": ["a", "\\ud800"]}',
    b'{"data": ["a", "b",]}',
]
DEEP = [
    b'{"x": ' + b"[" * depth + b"]" * depth + b', "data": ["a", "b"]}'
    for depth in (64, 128, 1_000_000)
] + [b'{"x": ' + b"[" * 100_000]
MANY = [json.dumps({"data": ["x"] * 1025}).encode()]


def good(number: int) -> bytes:
    return json.dumps(
        {"id": f"good-{number}", "data": [f"Question {number}?", f"Answer {number} ü."]},
        ensure_ascii=False,
    ).encode()


def written(path: Path, lines: list[bytes], newline: bytes = b"\n") -> Path:
    stream = newline.join(lines) + newline
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(stream, 1))
    elif path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as out:
            out.write(stream)
    else:
        path.write_bytes(stream)
    return path


def quarantine(out: Path) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for path in sorted((out / "_quarantine").iterdir())
        for line in path.read_bytes().splitlines()
    ]
