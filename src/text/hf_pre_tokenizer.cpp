// Works on a normal form: the steps of the sequence as strings, "split:REGEX", "digits:1", "bytes:gpt2"; a final
// ByteLevel without its own pattern changes no cut and is left out. The regexes are those that the families publish.
#include "text/hf_pre_tokenizer.h"

#include <algorithm>
#include <string>
#include <vector>

namespace hp {
namespace {

using Steps = std::vector<std::string>;

constexpr const char* kLlama3 =
    "split:(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kQwen2 =
    "split:(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kDeepseekV3 =
    "split:[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kDeepseekLlmMarks = "split:\\s?[!-/:-~！-／：-～‘-‟　-。]+";

Result<std::string> split_step(const JsonValue& step) {
  const JsonValue* pattern = step.find("pattern");
  const JsonValue* regex = pattern == nullptr ? nullptr : pattern->find("Regex");
  const JsonValue* behavior = step.find("behavior");
  const JsonValue* invert = step.find("invert");
  if (regex == nullptr || regex->as_string() == nullptr) {
    return fail(ErrorCode::unsupported, "a Split without a Regex pattern is not supported");
  }
  // All published patterns but DeepSeek LLM's cover every character, so that Removed + invert means Isolated.
  const bool isolated = behavior != nullptr && behavior->as_string() != nullptr && *behavior->as_string() == "Isolated";
  const bool removed = behavior != nullptr && behavior->as_string() != nullptr && *behavior->as_string() == "Removed" &&
                       invert != nullptr && invert->as_bool().value_or(false);
  if (!isolated && !removed) return fail(ErrorCode::unsupported, "a Split that is not \"Isolated\" is not supported");
  return "split:" + *regex->as_string();
}

Status add_step(const JsonValue& step, Steps& steps, int depth) {
  const JsonValue* type = step.find("type");
  if (type == nullptr || type->as_string() == nullptr || depth > 4) {
    return fail(ErrorCode::corrupt_data, "a pre-tokenizer without a type, or nested too deep");
  }
  const auto flag = [&](const char* name, bool otherwise) {
    const JsonValue* v = step.find(name);
    return v == nullptr ? otherwise : v->as_bool().value_or(otherwise);
  };
  const std::string& name = *type->as_string();
  if (name == "Sequence") {
    const JsonValue* list = step.find("pretokenizers");
    if (list == nullptr || list->as_array() == nullptr) {
      return fail(ErrorCode::corrupt_data, "a Sequence without its list");
    }
    for (const JsonValue& item : *list->as_array()) HP_TRY_VOID(add_step(item, steps, depth + 1));
  } else if (name == "Split") {
    HP_TRY(auto split, split_step(step));
    steps.push_back(std::move(split));
  } else if (name == "Digits") {
    steps.emplace_back(flag("individual_digits", false) ? "digits:1" : "digits:all");
  } else if (name == "ByteLevel") {
    if (flag("add_prefix_space", true)) return fail(ErrorCode::unsupported, "ByteLevel with add_prefix_space");
    if (flag("use_regex", true)) steps.emplace_back("bytes:gpt2");
  } else {
    return fail(ErrorCode::unsupported, "the pre-tokenizer \"{}\" is not supported", name);
  }
  return {};
}

/// DeepSeek LLM and V2 write their letters out one by one; copies differ in normalization, so the frame decides.
bool is_deepseek_llm(const Steps& s) {
  return s.size() == 6 && s[0] == "split:[\r\n]" && s[1].starts_with("split:\\s?[A-Za-zµÀ-Ö") &&
         s[2] == kDeepseekLlmMarks && s[3] == "split:\\s+$" && s[4].starts_with("split:[一-龥ࠀ-一") &&
         s[5] == "digits:1";
}

bool is_deepseek_coder(const Steps& s) {
  return s.size() == 5 && s[0] == "split:[\r\n]" && s[1] == "split:\\s?\\p{L}+" && s[2] == "split:\\s?\\p{P}+" &&
         s[3].starts_with("split:[一-龥ࠀ-一") && s[4] == "digits:1";
}

}  // namespace

Result<PreTokenizer> recognize_pre_tokenizer(const JsonValue& pre_tokenizer) {
  Steps steps;
  HP_TRY_VOID(add_step(pre_tokenizer, steps, 0));
  if (steps.empty()) return PreTokenizer::none;
  if (steps == Steps{"bytes:gpt2"}) return PreTokenizer::gpt2;
  if (steps == Steps{"digits:1", "bytes:gpt2"}) return PreTokenizer::smollm;
  if (steps == Steps{kLlama3}) return PreTokenizer::llama3;
  if (steps == Steps{kQwen2}) return PreTokenizer::qwen2;
  if (steps == Steps{"split:\\p{N}{1,3}", "split:[一-龥\u3040-ゟ゠-ヿ]+", kDeepseekV3})
    return PreTokenizer::deepseek_v3;
  if (is_deepseek_llm(steps)) return PreTokenizer::deepseek_llm;
  if (is_deepseek_coder(steps)) return PreTokenizer::deepseek_coder;
  std::string found;
  for (const std::string& step : steps) {
    std::size_t bytes = std::min<std::size_t>(step.size(), 200);
    while (bytes < step.size() && (static_cast<unsigned char>(step[bytes]) & 0xC0U) == 0x80U) --bytes;
    found += " [" + step.substr(0, bytes) + "]";
  }
  return fail(ErrorCode::unsupported,
              "the split pattern is of no known family (gpt2, smollm, llama3, qwen2, deepseek-llm, deepseek-coder, "
              "deepseek-v3); found{}",
              found);
}

}  // namespace hp
