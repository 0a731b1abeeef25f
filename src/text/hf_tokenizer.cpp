#include "text/hf_tokenizer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/json.h"
#include "text/hf_pre_tokenizer.h"
#include "text/limits.h"

namespace hp {
namespace {

tl::unexpected<Error> bad(ErrorCode code, std::string where, std::string_view what) {
  return fail(Error{.code = code, .message = fmt::format("{}: {}", where, what), .where = std::move(where)});
}

Result<JsonValue> parse_file(std::string_view text, const char* name) {
  auto parsed = JsonValue::parse(text);
  if (!parsed) return bad(ErrorCode::corrupt_data, name, parsed.error().message);
  if (parsed->as_object() == nullptr) return bad(ErrorCode::corrupt_data, name, "expected a JSON object");
  return std::move(*parsed);
}

const JsonValue* present(const JsonValue& object, std::string_view name) {
  const JsonValue* v = object.find(name);
  return v == nullptr || v->is_null() ? nullptr : v;
}

std::string_view text_of(const JsonValue* v) {
  const std::string* text = v == nullptr ? nullptr : v->as_string();
  return text == nullptr ? std::string_view() : std::string_view(*text);
}

bool flag_of(const JsonValue& object, std::string_view name, bool otherwise) {
  const JsonValue* v = object.find(name);
  return v == nullptr ? otherwise : v->as_bool().value_or(otherwise);
}

Status put_token(TokenizerSource& source, const JsonValue* id, std::string_view text, TokenType type,
                 const std::string& where) {
  const auto index = id == nullptr ? std::nullopt : id->as_int();
  if (!index || *index < 0 || static_cast<std::size_t>(*index) >= text_limits::kVocabMax) {
    return bad(ErrorCode::corrupt_data, where,
               fmt::format("token '{}' has no id from 0 to {}", text, text_limits::kVocabMax - 1));
  }
  const auto at = static_cast<std::size_t>(*index);
  if (at >= source.tokens.size()) {
    source.tokens.resize(at + 1);
    source.types.resize(at + 1, TokenType::unused);
  }
  source.tokens[at] = text;
  source.types[at] = type;
  return {};
}

Status read_vocab(const JsonValue& model, TokenizerSource& source, bool byte_fallback) {
  const std::string where = "tokenizer.json: model.vocab";
  const JsonValue* vocab = model.find("vocab");
  if (vocab == nullptr || vocab->as_object() == nullptr)
    return bad(ErrorCode::corrupt_data, where, "expected an object");
  for (const auto& [text, id] : *vocab->as_object()) {
    const bool byte = byte_fallback && text.size() == 6 && text.starts_with("<0x");
    HP_TRY_VOID(put_token(source, &id, text, byte ? TokenType::byte : TokenType::normal, where));
  }
  return {};
}

Status read_merges(const JsonValue& model, TokenizerSource& source) {
  const std::string where = "tokenizer.json: model.merges";
  const JsonValue* merges = model.find("merges");
  if (merges == nullptr || merges->as_array() == nullptr)
    return bad(ErrorCode::corrupt_data, where, "expected an array");
  source.merges.reserve(merges->as_array()->size());
  for (const JsonValue& merge : *merges->as_array()) {
    if (const std::string* text = merge.as_string()) {
      source.merges.push_back(*text);
      continue;
    }
    const auto* pair = merge.as_array();
    if (pair == nullptr || pair->size() != 2 || (*pair)[0].as_string() == nullptr ||
        (*pair)[1].as_string() == nullptr) {
      return bad(ErrorCode::corrupt_data, where, "expected \"left right\" or [\"left\", \"right\"]");
    }
    const std::string& left = *(*pair)[0].as_string();
    const std::string& right = *(*pair)[1].as_string();
    if ((left + right).find(' ') != std::string::npos) {
      return bad(ErrorCode::unsupported, where, fmt::format("a token with a space in it, in '{}' + '{}'", left, right));
    }
    source.merges.push_back(left + " " + right);
  }
  return {};
}

Status read_added(const JsonValue& root, TokenizerSource& source) {
  const std::string where = "tokenizer.json: added_tokens";
  const JsonValue* added = present(root, "added_tokens");
  if (added == nullptr) return {};
  if (added->as_array() == nullptr) return bad(ErrorCode::corrupt_data, where, "expected an array");
  for (const JsonValue& token : *added->as_array()) {
    const std::string_view text = text_of(token.find("content"));
    if (text.empty()) return bad(ErrorCode::corrupt_data, where, "a token without content");
    for (const char* name : {"single_word", "lstrip", "rstrip"}) {
      if (flag_of(token, name, false)) {
        return bad(ErrorCode::unsupported, where, fmt::format("token '{}' has {}, which is not supported", text, name));
      }
    }
    const TokenType type = flag_of(token, "special", false) ? TokenType::control : TokenType::user_defined;
    HP_TRY_VOID(put_token(source, token.find("id"), text, type, where));
  }
  return {};
}

/// Null, NFC, or a sequence; a SentencePiece file replaces spaces and prepends one.
Status read_normalizer(const JsonValue& normalizer, TokenizerSource& source, bool& replaces_spaces) {
  const std::string where = "tokenizer.json: normalizer";
  const std::string_view type = text_of(normalizer.find("type"));
  const JsonValue* pattern = normalizer.find("pattern");
  if (type == "Sequence") {
    const JsonValue* list = normalizer.find("normalizers");
    if (list == nullptr || list->as_array() == nullptr) return bad(ErrorCode::corrupt_data, where, "no list");
    for (const JsonValue& item : *list->as_array()) {
      if (text_of(item.find("type")) == "Sequence") return bad(ErrorCode::unsupported, where, "nested sequences");
      HP_TRY_VOID(read_normalizer(item, source, replaces_spaces));
    }
  } else if (type == "NFC") {
    source.nfc = true;
  } else if (type == "Prepend" && text_of(normalizer.find("prepend")) == "\u2581") {
    source.add_space_prefix = true;
  } else if (type == "Replace" && pattern != nullptr && text_of(pattern->find("String")) == " " &&
             text_of(normalizer.find("content")) == "\u2581") {
    replaces_spaces = true;
  } else {
    return bad(ErrorCode::unsupported, where, fmt::format("\"{}\" is not supported", type));
  }
  return {};
}

Status read_model(const JsonValue& root, TokenizerSource& source) {
  const JsonValue* model = root.find("model");
  if (model == nullptr || text_of(model->find("type")) != "BPE") {
    return bad(ErrorCode::unsupported, "tokenizer.json: model.type",
               fmt::format("expected \"BPE\", found \"{}\"", model == nullptr ? "" : text_of(model->find("type"))));
  }
  for (const char* name : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const JsonValue* v = present(*model, name);
    if (v != nullptr && !(v->as_string() != nullptr && v->as_string()->empty())) {
      return bad(ErrorCode::unsupported, fmt::format("tokenizer.json: model.{}", name), "not supported");
    }
  }
  const bool byte_fallback = flag_of(*model, "byte_fallback", false);
  source.ignore_merges = flag_of(*model, "ignore_merges", false);
  HP_TRY_VOID(read_vocab(*model, source, byte_fallback));
  HP_TRY_VOID(read_merges(*model, source));
  bool replaces_spaces = false;
  if (const JsonValue* normalizer = present(root, "normalizer")) {
    HP_TRY_VOID(read_normalizer(*normalizer, source, replaces_spaces));
  }
  const JsonValue* pre = present(root, "pre_tokenizer");
  if (replaces_spaces) {
    if (pre != nullptr || source.ignore_merges || source.nfc) {
      return bad(ErrorCode::unsupported, "tokenizer.json: pre_tokenizer", "not supported beside a space replacement");
    }
    source.kind = TokenizerKind::sentencepiece_bpe;
  } else if (byte_fallback || source.add_space_prefix || pre == nullptr) {
    return bad(ErrorCode::unsupported, "tokenizer.json: model",
               "neither byte-level BPE with a ByteLevel pre-tokenizer nor SentencePiece-style");
  } else {
    auto known = recognize_pre_tokenizer(*pre);
    if (!known) return bad(known.error().code, "tokenizer.json: pre_tokenizer", known.error().message);
    source.pre = *known;
  }
  return read_added(root, source);
}

/// A token's id by its text, as "<s>" or as {"content": "<s>"}.
std::optional<TokenId> id_of(const TokenizerSource& source, const JsonValue* v) {
  if (v == nullptr) return std::nullopt;
  const std::string_view text = v->as_object() != nullptr ? text_of(v->find("content")) : text_of(v);
  const auto found = text.empty() ? source.tokens.end() : std::find(source.tokens.begin(), source.tokens.end(), text);
  if (found == source.tokens.end()) return std::nullopt;
  return static_cast<TokenId>(found - source.tokens.begin());
}

/// The first token of the template that a post-processor wraps around a text.
const JsonValue* leading_special(const JsonValue& processor, int depth = 0) {
  if (const JsonValue* list = processor.find("processors");
      list != nullptr && list->as_array() != nullptr && depth < 4) {
    for (const JsonValue& item : *list->as_array()) {
      if (const JsonValue* found = leading_special(item, depth + 1)) return found;
    }
  }
  const JsonValue* single = processor.find("single");
  if (single == nullptr || single->as_array() == nullptr || single->as_array()->empty()) return nullptr;
  const JsonValue* special = single->as_array()->front().find("SpecialToken");
  return special == nullptr ? nullptr : special->find("id");
}

void read_template(const JsonValue& config, TokenizerSource& source) {
  const JsonValue* found = present(config, "chat_template");
  if (found == nullptr) return;
  if (found->as_string() != nullptr) source.chat_template = *found->as_string();
  if (found->as_array() == nullptr) return;
  for (const JsonValue& named : *found->as_array()) {  // [{"name": "default", "template": "…"}, …]
    if (text_of(named.find("name")) == "default") source.chat_template = text_of(named.find("template"));
  }
}

Status read_generation(std::string_view text, TokenizerSource& source) {
  HP_TRY(const JsonValue config, parse_file(text, "generation_config.json"));
  const JsonValue* eos = present(config, "eos_token_id");
  if (eos == nullptr) return {};
  const JsonValue::Array one = {*eos};
  for (const JsonValue& v : eos->as_array() != nullptr ? *eos->as_array() : one) {
    const auto id = v.as_int();
    if (!id || *id < 0 || static_cast<std::size_t>(*id) >= source.tokens.size()) {
      return bad(ErrorCode::corrupt_data, "generation_config.json: eos_token_id",
                 fmt::format("expected ids below {}, found {}", source.tokens.size(), v.dump()));
    }
    source.end_of_generation.push_back(static_cast<TokenId>(*id));
  }
  return {};
}

}  // namespace

void collect_end_tokens(TokenizerSource& source) {
  static constexpr std::string_view kEnds[] = {"<|im_end|>",    "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",
                                               "<|endoftext|>", "<|EOT|>",    "</s>",       "<｜end▁of▁sentence｜>"};
  auto& ends = source.end_of_generation;
  for (std::size_t i = 0; i < source.tokens.size(); ++i) {
    const bool special = source.types[i] == TokenType::control || source.types[i] == TokenType::user_defined;
    if (special && std::find(std::begin(kEnds), std::end(kEnds), source.tokens[i]) != std::end(kEnds)) {
      ends.push_back(static_cast<TokenId>(i));
    }
  }
  if (source.eos) ends.push_back(*source.eos);
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

Result<TokenizerSource> tokenizer_source_from_json(const HfTokenizerFiles& files) {
  TokenizerSource source;
  HP_TRY(const JsonValue root, parse_file(files.tokenizer, "tokenizer.json"));
  HP_TRY_VOID(read_model(root, source));
  for (std::size_t i = 0; i < source.tokens.size(); ++i) {
    if (source.types[i] == TokenType::unused) source.tokens[i] = fmt::format("[unused {}]", i);
  }
  source.unk = id_of(source, root.find("model")->find("unk_token"));
  if (const JsonValue* processor = present(root, "post_processor")) {
    source.bos = id_of(source, leading_special(*processor));
    source.add_bos = source.bos.has_value();
  }
  if (!files.tokenizer_config.empty()) {
    HP_TRY(const JsonValue config, parse_file(files.tokenizer_config, "tokenizer_config.json"));
    if (const auto bos = id_of(source, config.find("bos_token"))) source.bos = bos;
    source.eos = id_of(source, config.find("eos_token"));
    source.pad = id_of(source, config.find("pad_token"));
    source.add_bos = flag_of(config, "add_bos_token", source.add_bos);
    read_template(config, source);
  }
  if (!files.chat_template.empty()) source.chat_template = files.chat_template;
  if (!files.generation_config.empty()) HP_TRY_VOID(read_generation(files.generation_config, source));
  collect_end_tokens(source);
  return source;
}

}  // namespace hp
