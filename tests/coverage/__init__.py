"""Which lines of the agent the tests run, in whichever process they do: see `plugin.py`."""
