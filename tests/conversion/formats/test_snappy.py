"""Decompression against a compressor written here: greedy, with copies of all three kinds."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue_hf.conversion.formats.tensorflow_index import decompress, write_varint


def literal(data: bytes) -> bytes:
    size = len(data) - 1
    if size < 60:
        return bytes([size << 2]) + data
    width = (size.bit_length() + 7) // 8
    return bytes([(59 + width) << 2]) + size.to_bytes(width, "little") + data


def copy(size: int, offset: int, kind: int) -> bytes:
    if kind == 1:
        return bytes([1 | (size - 4) << 2 | (offset >> 8) << 5, offset & 0xFF])
    return bytes([kind | (size - 1) << 2]) + offset.to_bytes(2 if kind == 2 else 4, "little")


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """(compressed, plain), both built up element by element."""
    plain = draw(st.binary(min_size=1, max_size=70))
    packed = literal(plain)
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from((0, 1, 2, 3)))
        if kind == 0:
            more = draw(st.binary(min_size=1, max_size=300))
            packed, plain = packed + literal(more), plain + more
        else:
            offset = draw(st.integers(1, min(len(plain), 2047 if kind == 1 else 65535)))
            size = draw(st.integers(4, 11) if kind == 1 else st.integers(1, 64))
            packed += copy(size, offset, kind)
            for _ in range(size):
                plain += plain[-offset : len(plain) - offset + 1]
    return write_varint(len(plain)) + packed, plain


@given(streams())
def test_what_was_compressed_comes_back(pair: tuple[bytes, bytes]) -> None:
    packed, plain = pair
    assert decompress(packed) == plain


@given(streams(), st.data())
def test_a_cut_stream_is_refused(pair: tuple[bytes, bytes], data: st.DataObject) -> None:
    packed, _ = pair
    with pytest.raises(ValueError):
        decompress(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(st.binary(max_size=200))
def test_noise_never_does_worse_than_value_error(noise: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert len(decompress(noise)) <= 24 * len(noise)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (write_varint(2**40) + b"\0a", "claims"),
        (write_varint(4) + literal(b"abcd") + literal(b"e"), "more than it claims"),
        (write_varint(9) + literal(b"abcd") + copy(5, 5, 2), "reaches back 5 bytes of 4"),
        (write_varint(9) + literal(b"abcd") + copy(5, 0, 2), "reaches back 0 bytes"),
    ],
    ids=["absurd_length", "too_much", "copy_from_before", "copy_of_nothing"],
)
def test_damage_is_named(stream: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompress(stream)
