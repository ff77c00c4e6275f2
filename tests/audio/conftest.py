"""Fixtures of the audio tests."""

import zlib

import numpy as np
import pytest


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend only on the name of the test."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))
