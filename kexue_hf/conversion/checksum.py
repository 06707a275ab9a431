"""CRC-32C as LevelDB and TensorFlow store it: rotated and offset, so that a checksum of data that holds checksums is
still a good one (LevelDB, `util/crc32c.h`)."""

from crc32c import crc32c

_DELTA = 0xA282EAD8


def masked_crc(*pieces: bytes | bytearray | memoryview) -> int:
    """The stored form of the CRC-32C of the pieces, one after the other."""
    value = 0
    for piece in pieces:
        value = crc32c(piece, value)
    return mask(value)


def mask(crc: int) -> int:
    """What is stored for a plain CRC-32C."""
    return (((crc >> 15) | (crc << 17)) + _DELTA) & 0xFFFFFFFF
