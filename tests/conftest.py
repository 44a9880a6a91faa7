"""Fixtures for all tests: plugins of strangers, installed as a distribution on ``sys.path``."""

from __future__ import annotations

from hypothesis import settings

from dsrl.testing.fixtures import bound, install  # noqa: F401 - pytest finds them here

# A busy machine must not fail a test.
settings.register_profile("dsrl", deadline=None)
settings.load_profile("dsrl")
