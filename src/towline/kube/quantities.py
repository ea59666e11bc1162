"""Kubernetes quantities: amounts with a suffix, as in `250m`, `16Gi` or `12e6`. Pure.

Source: Kubernetes API reference, "Quantity".
"""

import re

from towline.kube.errors import BadQuantity as BadQuantity

MAX_QUANTITY_CHARACTERS = 64
"""The API server writes at most 19 digits; more is no amount of anything."""

_QUANTITY = re.compile(r"([+-]?)([0-9]+)?(?:\.([0-9]*))?(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,3}))?", re.ASCII)
_SUFFIXES = {
    "": (1, 1),
    "n": (1, 10**9),
    "u": (1, 10**6),
    "m": (1, 10**3),
    **{letter: (10 ** (3 * power), 1) for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": (1024**power, 1) for power, letter in enumerate("KMGTPE", 1)},
}


def parse_quantity(text: str) -> float:
    """Return the amount in the unit without a suffix: cores, bytes, pieces. The nearest float; whole up to 2**53.

    Raises: BadQuantity.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= MAX_QUANTITY_CHARACTERS else None
    if match is None or not (match[2] or match[3]):
        raise BadQuantity("not a quantity")
    sign, whole, fraction, suffix, exponent = match.groups()
    digits = int((whole or "") + (fraction or ""))
    factor, divisor = _SUFFIXES[suffix or ""]
    power = int(exponent or 0) - len(fraction or "")
    if power >= 0:
        factor *= 10**power
    else:
        divisor *= 10**-power
    try:
        amount: float = digits * factor / divisor
    except OverflowError:
        raise BadQuantity("the quantity is too large") from None
    return -amount if sign == "-" else amount
