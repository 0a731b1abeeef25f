#include "node/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "text/hf_tokenizer.h"

namespace hp {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

std::string key(std::string_view name) {
  return fmt::format("{}{}", kPrefix, name);
}

tl::unexpected<Error> bad_key(const GgufFile& file, ErrorCode code, const std::string& where, std::string_view what) {
  return fail(Error{.code = code, .message = fmt::format("{}: {}: {}", file.name(), where, what), .where = where});
}

Result<PreTokenizer> read_pre(const GgufFile& file) {
  static constexpr std::array<std::pair<std::string_view, PreTokenizer>, 9> known = {{
      {"smollm", PreTokenizer::smollm},
      {"gpt-2", PreTokenizer::gpt2},
      {"llama-bpe", PreTokenizer::llama3},
      {"llama3", PreTokenizer::llama3},
      {"qwen2", PreTokenizer::qwen2},
      {"deepseek-r1-qwen", PreTokenizer::qwen2},
      {"deepseek-llm", PreTokenizer::deepseek_llm},
      {"deepseek-coder", PreTokenizer::deepseek_coder},
      {"deepseek-v3", PreTokenizer::deepseek_v3},
  }};
  const std::string* name = file.get_string(key("pre"));
  if (name == nullptr) return bad_key(file, ErrorCode::unsupported, key("pre"), "missing; convert the model again");
  const auto* found = std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.first == *name; });
  if (found != known.end()) return found->second;
  std::string names;
  for (const auto& k : known) names += fmt::format(" {}", k.first);
  return bad_key(file, ErrorCode::unsupported, key("pre"), fmt::format("found \"{}\", known are:{}", *name, names));
}

Status read_id(const GgufFile& file, std::string_view name, std::size_t vocab, std::optional<TokenId>& out) {
  const auto id = file.get_int(key(name));
  if (!id) return {};
  if (*id < 0 || static_cast<std::uint64_t>(*id) >= vocab) {
    return bad_key(file, ErrorCode::corrupt_data, key(name), fmt::format("token {} of {} tokens", *id, vocab));
  }
  out = static_cast<TokenId>(*id);
  return {};
}

Status read_types(const GgufFile& file, TokenizerSource& source) {
  source.types.assign(source.tokens.size(), TokenType::normal);
  const auto* types = file.get_ints(key("token_type"));
  if (types == nullptr) return {};
  if (types->size() != source.tokens.size()) {
    return bad_key(file, ErrorCode::corrupt_data, key("token_type"),
                   fmt::format("expected {} entries, found {}", source.tokens.size(), types->size()));
  }
  for (std::size_t i = 0; i < types->size(); ++i) {
    if ((*types)[i] < 1 || (*types)[i] > 6) {
      return bad_key(file, ErrorCode::corrupt_data, key("token_type"),
                     fmt::format("expected 1 to 6, found {} for token {}", (*types)[i], i));
    }
    source.types[i] = static_cast<TokenType>((*types)[i]);
  }
  return {};
}

Status read_kind(const GgufFile& file, TokenizerSource& source) {
  const std::string* model = file.get_string(key("model"));
  if (model != nullptr && *model == "gpt2") {
    source.kind = TokenizerKind::byte_bpe;
    HP_TRY(source.pre, read_pre(file));
    const auto* merges = file.get_strings(key("merges"));
    if (merges == nullptr) return bad_key(file, ErrorCode::corrupt_data, key("merges"), "missing");
    source.merges = *merges;
    return {};
  }
  if (model == nullptr || *model != "llama") {
    return bad_key(file, ErrorCode::unsupported, key("model"),
                   fmt::format("expected gpt2 or llama, found {}", model == nullptr ? "nothing" : model->c_str()));
  }
  source.kind = TokenizerKind::sentencepiece_bpe;
  const auto* scores = file.get_doubles(key("scores"));
  if (scores == nullptr || scores->size() != source.tokens.size()) {
    return bad_key(file, ErrorCode::corrupt_data, key("scores"), "expected one score per token");
  }
  for (const double s : *scores) source.scores.push_back(static_cast<float>(s));
  return {};
}

}  // namespace

Result<TokenizerSource> tokenizer_source_from_gguf(const GgufFile& file) {
  TokenizerSource source;
  const auto* tokens = file.get_strings(key("tokens"));
  if (tokens == nullptr || tokens->empty()) return bad_key(file, ErrorCode::corrupt_data, key("tokens"), "missing");
  source.tokens = *tokens;
  HP_TRY_VOID(read_kind(file, source));
  HP_TRY_VOID(read_types(file, source));
  HP_TRY_VOID(read_id(file, "bos_token_id", tokens->size(), source.bos));
  HP_TRY_VOID(read_id(file, "eos_token_id", tokens->size(), source.eos));
  HP_TRY_VOID(read_id(file, "unknown_token_id", tokens->size(), source.unk));
  HP_TRY_VOID(read_id(file, "padding_token_id", tokens->size(), source.pad));
  const bool sentencepiece = source.kind == TokenizerKind::sentencepiece_bpe;
  source.add_bos = file.get_bool(key("add_bos_token")).value_or(sentencepiece);
  source.add_space_prefix = file.get_bool(key("add_space_prefix")).value_or(sentencepiece);
  source.ignore_merges = source.pre == PreTokenizer::llama3;
  // Qwen's own tokenizers normalize; the DeepSeek distills of Qwen ("deepseek-r1-qwen") do not.
  const std::string* pre = file.get_string(key("pre"));
  source.nfc = pre != nullptr && *pre == "qwen2";
  if (const std::string* text = file.get_string("tokenizer.chat_template")) source.chat_template = *text;
  collect_end_tokens(source);
  return source;
}

}  // namespace hp
