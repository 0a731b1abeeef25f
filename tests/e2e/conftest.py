import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from serving import Server  # noqa: E402


@pytest.fixture(scope="session")
def server():
    with Server("--header-timeout-ms", 300_000) as running:  # two thousand connections take their time to be made
        yield running
