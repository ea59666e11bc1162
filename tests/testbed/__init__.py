"""The real servers that the tests talk to: found when they run, started when they can be, reported when not.

One module per part. Nothing here asserts anything and nothing here knows Towline; `python -m tests.testbed`
is the command line, `tests/conftest.py` turns the parts into fixtures.
"""
