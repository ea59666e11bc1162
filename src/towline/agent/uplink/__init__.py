"""The agent's end of the link: proving who it is, reporting, taking orders. Bytes and reconnects are `tunnel`'s."""
