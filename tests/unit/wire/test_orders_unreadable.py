"""Orders that cannot be read are bad orders, whatever their bytes are."""

import pytest

from towline.wire import orders


@pytest.mark.parametrize("payload", [b"", b"nonsense", b'{"project":"\xff"}', b"[" * 100_000])
def test_payload_that_cannot_be_read_is_a_bad_order(payload: bytes) -> None:
    for kind in orders._decoders:
        with pytest.raises(orders.BadOrder):
            orders.decode(kind, payload)
