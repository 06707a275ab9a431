"""The numeric types of stored tensors, and what TensorFlow, numpy and safetensors call each of them.

numpy knows no bfloat16 and no 8-bit floats. Their bits travel in unsigned integers of the same width; only a cast
(`--dtype`) looks at the values.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ElementType:
    """One type of element: its name here, TensorFlow's number, numpy's and safetensors' spelling, its bytes."""

    name: str
    tensorflow: int
    numpy: str
    safetensors: str | None
    size: int


ELEMENT_TYPES: tuple[ElementType, ...] = (
    ElementType("float32", 1, "<f4", "F32", 4),
    ElementType("float64", 2, "<f8", "F64", 8),
    ElementType("int32", 3, "<i4", "I32", 4),
    ElementType("uint8", 4, "|u1", "U8", 1),
    ElementType("int16", 5, "<i2", "I16", 2),
    ElementType("int8", 6, "|i1", "I8", 1),
    ElementType("complex64", 8, "<c8", "C64", 8),
    ElementType("int64", 9, "<i8", "I64", 8),
    ElementType("bool", 10, "|b1", "BOOL", 1),
    ElementType("bfloat16", 14, "<u2", "BF16", 2),
    ElementType("uint16", 17, "<u2", "U16", 2),
    ElementType("complex128", 18, "<c16", None, 16),
    ElementType("float16", 19, "<f2", "F16", 2),
    ElementType("uint32", 22, "<u4", "U32", 4),
    ElementType("uint64", 23, "<u8", "U64", 8),
    ElementType("float8_e5m2", 24, "|u1", "F8_E5M2", 1),
    ElementType("float8_e4m3", 25, "|u1", "F8_E4M3", 1),
)

BY_NAME: dict[str, ElementType] = {kind.name: kind for kind in ELEMENT_TYPES}
BY_TENSORFLOW: dict[int, ElementType] = {kind.tensorflow: kind for kind in ELEMENT_TYPES}
BY_SAFETENSORS: dict[str, ElementType] = {kind.safetensors: kind for kind in ELEMENT_TYPES if kind.safetensors}

# What TensorFlow can also store in a variable and no weight is: named so that a refusal can say what it met.
OTHER_TENSORFLOW_TYPES: dict[int, str] = {
    7: "string",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    15: "qint16",
    16: "quint16",
    20: "resource",
    21: "variant",
}

FLOATING: frozenset[str] = frozenset({"float64", "float32", "float16", "bfloat16"})
"""Types between which `--dtype` casts."""
