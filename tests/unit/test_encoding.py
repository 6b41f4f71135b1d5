"""Compressed bodies: whole, cut anywhere, broken, and made to burst."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from recado.gateway.encoding import decoder
from recado.gateway.problem import Problem

LIMIT = 1_000_000

#: Zeros that a bomb would become. Beyond the limit, and far beyond what may be held at once.
BOMB_BYTES = 300_000_000


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_streamed(data: bytes) -> bytes:
    """A frame that does not say how large its content is, as a streaming client makes it."""
    made = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return made.compress(data) + made.flush()


COMPRESSED = [(b"gzip", gzip.compress), (b"zstd", zstd), (b"zstd", zstd_streamed)]


def decoded(encoding: bytes, chunks: list[bytes], limit: int = LIMIT) -> bytes:
    reading = decoder(encoding, limit)
    parts = [reading.feed(chunk) for chunk in chunks]
    reading.finish()
    return b"".join(parts)


def refusal(encoding: bytes, chunks: list[bytes], limit: int = LIMIT) -> Problem:
    with pytest.raises(Problem) as caught:
        decoded(encoding, chunks, limit)
    return caught.value


@st.composite
def cut(draw: st.DrawFn, body: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    return [body[start:end] for start, end in pairwise([0, *places, len(body)])]


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSED)
@given(data=st.data(), content=st.binary(max_size=3000), repeated=st.integers(1, 40))
def test_the_content_is_the_same_however_the_body_is_cut(encoding, compress, data, content, repeated):
    chunks = data.draw(cut(compress(content * repeated)))
    assert decoded(encoding, chunks) == content * repeated


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSED)
def test_the_content_comes_byte_by_byte(encoding, compress):
    content = random.Random(1).randbytes(1000) * 5
    assert decoded(encoding, [bytes([byte]) for byte in compress(content)]) == content


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSED)
@given(data=st.data(), members=st.lists(st.binary(max_size=300), min_size=2, max_size=4))
def test_members_one_after_another_are_one_content(encoding, compress, data, members):
    chunks = data.draw(cut(b"".join(map(compress, members))))
    assert decoded(encoding, chunks) == b"".join(members)


@pytest.mark.parametrize("name", [b"GZIP", b" gzip ", b"x-gzip", b"Gzip"])
def test_names_are_read_as_http_writes_them(name):
    assert decoded(name, [gzip.compress(b"a")]) == b"a"


@pytest.mark.parametrize("name", [b"", b"identity", b"Identity"])
def test_nothing_is_done_without_an_encoding(name):
    assert decoded(name, [b"a", b"", b"b"]) == b"ab"


@pytest.mark.parametrize("name", [b"br", b"deflate", b"gzip, zstd", b"gzip, gzip", b"x" * 500, b"\xff"])
def test_an_encoding_that_nobody_knows_is_415(name):
    with pytest.raises(Problem) as caught:
        decoder(name, LIMIT)
    assert (caught.value.status, caught.value.extensions) == (415, {"field": "content-encoding"})


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSED)
def test_a_body_cut_anywhere_is_incomplete(encoding, compress):
    body = compress(random.Random(2).randbytes(300))
    for end in range(len(body)):
        problem = refusal(encoding, [body[:end]])
        assert (problem.status, problem.code) == (400, "body-incomplete"), end
        assert refusal(encoding, [body, body[:end]]).status == 400 if end else True


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSED)
@given(noise=st.binary(min_size=1, max_size=200), after=st.booleans())
def test_noise_is_400(encoding, compress, noise, after):
    chunks = [compress(b"fine"), b"\x01" + noise] if after else [b"\x01" + noise]
    assert refusal(encoding, chunks).status == 400


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSED)
def test_a_flipped_bit_never_passes_for_the_content(encoding, compress):
    content = random.Random(3).randbytes(200)
    body = compress(content)
    for place in range(4, len(body)):
        broken = body[:place] + bytes([body[place] ^ 0x10]) + body[place + 1 :]
        try:
            # gzip has a checksum of its content; zstd need not, but a broken frame must raise nothing else.
            got = decoded(encoding, [broken])
        except Problem as problem:
            got = None
            status = problem.status
        else:
            status = 400
        assert status in (400, 413)
        assert got is None or encoding == b"zstd" or got == content


@pytest.mark.parametrize("encoding", [b"", b"gzip", b"zstd"])
def test_the_limit_is_what_comes_out(encoding):
    compress = {b"": bytes, b"gzip": gzip.compress, b"zstd": zstd}[encoding]
    assert len(decoded(encoding, [compress(b"a" * LIMIT)])) == LIMIT
    problem = refusal(encoding, [compress(b"a" * (LIMIT + 1))])
    assert (problem.status, problem.code) == (413, "body-too-large")
    half = compress(b"a" * (LIMIT // 2 + 1))
    assert refusal(encoding, [half, half]).status == 413


def bomb(encoding: bytes) -> bytes:
    made = (
        zlib.compressobj(9, wbits=31)
        if encoding == b"gzip"
        else zstandard.ZstdCompressor(19, write_content_size=False).compressobj()
    )
    block = bytes(1_000_000)
    return b"".join(made.compress(block) for _ in range(BOMB_BYTES // len(block))) + made.flush()


@pytest.mark.parametrize("encoding", [b"gzip", b"zstd"])
def test_a_bomb_is_413_and_stays_small_in_memory(encoding):
    body = bomb(encoding)
    assert len(body) < BOMB_BYTES / 100
    for chunks in ([body], [body[start : start + 65_536] for start in range(0, len(body), 65_536)]):
        tracemalloc.start()
        try:
            assert refusal(encoding, chunks).status == 413
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 40_000_000


def test_a_zstd_frame_may_not_ask_for_a_huge_window():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = made.compress(b"a" * 1000) + made.flush()
    assert refusal(b"zstd", [body]).status == 400
