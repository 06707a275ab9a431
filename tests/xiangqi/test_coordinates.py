import pytest

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import Board, from_uci, parse_iccs, to_uci


def test_iccs_and_uci() -> None:
    for iccs, uci in (("h2e2", "h3e3"), ("a9a8", "a10a9"), ("i8i9", "i9i10"), ("a0i0", "a1i1"), ("e9d9", "e10d10")):
        assert to_uci(iccs) == uci and from_uci(uci) == iccs
    assert to_uci("H2-E2") == "h3e3" and from_uci("H10G8") == "h9g7"
    for move in Board().legal_moves():
        assert from_uci(to_uci(move)) == move
    assert parse_iccs("B0-C2") == "b0c2"


@pytest.mark.parametrize("uci", ["", "h0e2", "h11e2", "a010a9", "h3e3q", "0000", "j1a1", "h3-e3", "h３e3", None])
def test_bad_uci(uci: str) -> None:
    with pytest.raises(InputError, match=r"expected a UCI move such as h3e3 \(files a to i, ranks 1 to 10\), got"):
        from_uci(uci)


@pytest.mark.parametrize("iccs", ["", "h2", "h2--e2", "h2 e2", "h2e22", None, 5])
def test_bad_iccs(iccs: str) -> None:
    for function in (parse_iccs, to_uci):
        with pytest.raises(InputError, match="expected an ICCS move such as h2e2"):
            function(iccs)
