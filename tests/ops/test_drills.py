"""The short part of the drills: a killed node, every channel told with a genuine signature, nothing lost for clients."""
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[0]), str(Path(__file__).resolve().parents[1])]
import drills  # noqa: E402
from serving import MODEL, PROGRAM  # noqa: E402

pytestmark = pytest.mark.skipif(not PROGRAM.exists() or not MODEL.exists(), reason="no program or no default model")


def test_node_killed():
    cluster = drills.Cluster()
    try:
        result = drills.node_killed(cluster)
    finally:
        cluster.close()
    assert result["errors"] == 0 and result["streams"] > 0, result
    assert result["channels"] == len(drills.Channels.KINDS) and result["bad_signatures"] == 0, result
    assert "move_traffic" in result["actions"] and "return_traffic" in result["actions"], result
