"""What reaches into other libraries: each place with its reason and the versions it was read on.

There is one file for each library, or part of a library. `tests/test_compat.py` fails with a sentence when a release
changes what they reach into.
"""
