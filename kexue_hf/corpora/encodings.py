"""What to do about a text file that is not UTF-8."""

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def recoding_advice(line: bytes) -> str:
    """Return the advice for a file with this line, which is not UTF-8: the command that converts it, by what it is."""
    if line.startswith(_UTF16_MARKS):
        encoding = "utf-16"
    elif b"\0" in line:
        encoding = "utf-16le"
    else:
        encoding = "gb18030"
    return f"convert the file, for example: iconv -f {encoding} -t utf-8"


__all__ = ["recoding_advice"]
