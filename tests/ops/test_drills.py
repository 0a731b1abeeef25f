"""The short part of the drills: each step happened and was told over every kind of channel. No time is asserted here."""
import sys
from pathlib import Path

import pytest

pytest.importorskip("numpy")  # the variant's weights
sys.path[:0] = [str(Path(__file__).resolve().parents[0]), str(Path(__file__).resolve().parents[1])]
import drills  # noqa: E402
from serving import MODEL, PROGRAM  # noqa: E402

pytestmark = pytest.mark.skipif(not PROGRAM.exists() or not MODEL.exists(), reason="no program or no default model")


def check(result):
    assert result["errors"] == [] and result["streams"] > 0, result
    assert result["refused"] == 0, f"a message was not genuine: {result}"


def test_a_killed_node():
    result = drills.node_killed()
    check(result)
    assert result["texts"] == 1, "every stream has the same tokens, the moved ones too"
    assert result["bundle"] > 0 and {"move_traffic", "bundle", "return_traffic"} <= set(result["actions"]), result


def test_time_outs_and_all_of_level_2():
    result = drills.time_outs()
    check(result)
    assert result["expected_errors"] > 0, result
    assert result["actions"] == ["set_step_tokens", "use_variant", "scale_out", "scale_in", "drop_variant"], result


def test_a_full_disk():
    try:
        result = drills.disk_full()
    except drills.Skip as why:
        pytest.skip(str(why))
    check(result)
    assert "move_traffic" in result["actions"] and "return_traffic" in result["actions"], result
