"""Compressed request bodies: decompressed as they arrive, never beyond a limit (pure)."""

from __future__ import annotations

import zlib
from typing import Protocol

import zstandard

from recado.gateway.problem import Problem

__all__ = ["Decoder", "decoder"]


class Decoder(Protocol):
    """Turns the bytes of a body, as they came, into those that were meant."""

    def feed(self, chunk: bytes) -> bytes:
        """Take some bytes, give some. Raises Problem where they are broken or grow too large."""

    def finish(self) -> None:
        """Raise Problem where the body ended too early."""


def decoder(content_encoding: bytes, max_bytes: int) -> Decoder:
    """The decoder of a Content-Encoding. Raises Problem 415 for one that nobody here knows."""
    if not content_encoding:
        return _Identity(max_bytes)
    encoding = content_encoding.strip().lower().decode("latin-1")
    if encoding == "identity":
        return _Identity(max_bytes)
    if encoding in ("gzip", "x-gzip"):
        return _Gzip(max_bytes)
    if encoding == "zstd":
        return _Zstd(max_bytes)
    detail = f"Content-Encoding {encoding[:40]!r} is not supported; gzip, zstd and none are."
    raise Problem(415, "unsupported-encoding", "Unsupported encoding", detail, field="content-encoding")


def too_large(max_bytes: int) -> Problem:
    """A body beyond ``RECADO_MAX_BODY_BYTES``."""
    detail = f"The body is larger than RECADO_MAX_BODY_BYTES, {max_bytes} bytes."
    return Problem(413, "body-too-large", "Body too large", detail)


def incomplete(what: str) -> Problem:
    """A body that ended before it was whole: half a record is none."""
    return Problem(400, "body-incomplete", "Body incomplete", f"{what} Nothing was sent to Kafka.")


class _Identity:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0

    def feed(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise too_large(self._max_bytes)
        return chunk

    def finish(self) -> None:
        """Whether all of it came is the server's to know."""


class _Gzip:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._inflate = zlib.decompressobj(wbits=31)
        self._started = False

    def feed(self, chunk: bytes) -> bytes:
        parts = []
        while chunk:
            if self._inflate.eof:  # a gzip body may have several members (RFC 1952, 2.2)
                self._inflate = zlib.decompressobj(wbits=31)
            self._started = True
            try:
                part = self._inflate.decompress(chunk, self._left + 1)
            except zlib.error as error:
                raise Problem(400, "invalid-encoding", "Not gzip", f"The body is not gzip: {error}.") from None
            self._left -= len(part)
            if self._left < 0:
                raise too_large(self._max_bytes)
            parts.append(part)
            chunk = self._inflate.unused_data
        return b"".join(parts)

    def finish(self) -> None:
        if not self._started or not self._inflate.eof:
            raise incomplete("The gzip body ended before its end.")


class _Zstd:
    #: zstd may ask for a window of 2 GB; 8 MiB is what every decoder must support (RFC 8878, 3.1.1.1.2).
    WINDOW_BYTES = 8 * 1024 * 1024

    #: A block of 4 bytes may grow to 128 KiB, so small slices bound what one call can make (16 MiB).
    SLICE_BYTES = 512

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._decompress = self._new()
        self._started = False

    def _new(self) -> zstandard.ZstdDecompressionObj:
        return zstandard.ZstdDecompressor(max_window_size=self.WINDOW_BYTES).decompressobj()

    def feed(self, chunk: bytes) -> bytes:
        parts: list[bytes] = []
        for start in range(0, len(chunk), self.SLICE_BYTES):
            rest = chunk[start : start + self.SLICE_BYTES]
            while rest:
                rest = self._step(rest, parts)
        return b"".join(parts)

    def _step(self, data: bytes, parts: list[bytes]) -> bytes:
        if self._started and self._decompress.eof:
            self._decompress = self._new()
        self._started = True
        try:
            part = self._decompress.decompress(data)
        except zstandard.ZstdError as error:
            raise Problem(400, "invalid-encoding", "Not zstd", f"The body is not zstd: {error}.") from None
        self._left -= len(part)
        if self._left < 0:
            raise too_large(self._max_bytes)
        parts.append(part)
        return self._decompress.unused_data if self._decompress.eof else b""

    def finish(self) -> None:
        if not self._started or not self._decompress.eof:
            raise incomplete("The zstd body ended before its end.")
