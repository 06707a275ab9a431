"""The variable-length integers of protocol buffers, LevelDB and snappy: seven bits a byte, lowest first."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned integer (below 2**64) at `at`, and where the next thing begins.

    Raises:
        ValueError: the data ends inside the integer, or it is longer than 64 bits.
    """
    value = shift = 0
    end = len(data)
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
        shift += 7
        if shift > 63:
            break
    else:
        raise ValueError("a number is cut off")
    raise ValueError("a number is longer than 64 bits")


def write_varint(value: int) -> bytes:
    """The encoding of an unsigned integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
