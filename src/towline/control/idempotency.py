"""The header by which a request that is sent again does nothing again."""

from typing import Annotated

from fastapi import Header

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=100,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeating a request under its key answers with what the first one made.",
    ),
]
