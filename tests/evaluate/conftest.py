"""The tables that all tests of the room read."""

import pytest
from small_world import World, build


@pytest.fixture(scope="session")
def world() -> World:
    return build()
