"""The canary of the sealing keys: proof at start that they are the right ones."""

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base


class SealingCanary(Base):
    """A known text sealed under each key of the ring. A wrong key cannot open it, and the server does not start."""

    __tablename__ = "sealing_canary"

    key_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
