#include "hub/catalog.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace hp::hub {
namespace {

constexpr std::array kCatalog = {
    CatalogEntry{"deepseek-r1:1.5b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "", "1.5B, bf16, 3.6 GB"},
    CatalogEntry{"deepseek-r1:1.5b-q4", "unsloth/DeepSeek-R1-Distill-Qwen-1.5B-GGUF", "Q4_K_M", "1.5B, 4 bits, 1.1 GB"},
    CatalogEntry{"deepseek-r1:7b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "", "7B, bf16, 15 GB"},
    CatalogEntry{"deepseek-r1:7b-q4", "unsloth/DeepSeek-R1-Distill-Qwen-7B-GGUF", "Q4_K_M", "7B, 4 bits, 4.7 GB"},
    CatalogEntry{"deepseek-r1:8b", "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "", "8B, bf16, 16 GB"},
    CatalogEntry{"deepseek-r1:8b-q4", "unsloth/DeepSeek-R1-0528-Qwen3-8B-GGUF", "Q4_K_M", "8B, 4 bits, 5 GB"},
    CatalogEntry{"deepseek-r1:8b-llama", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "", "8B, bf16, 16 GB"},
    CatalogEntry{"deepseek-r1:14b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "", "14B, bf16, 30 GB"},
    CatalogEntry{"deepseek-r1:14b-q4", "unsloth/DeepSeek-R1-Distill-Qwen-14B-GGUF", "Q4_K_M", "14B, 4 bits, 9 GB"},
    CatalogEntry{"deepseek-r1:32b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "", "32B, bf16, 66 GB"},
    CatalogEntry{"deepseek-r1:32b-q4", "unsloth/DeepSeek-R1-Distill-Qwen-32B-GGUF", "Q4_K_M", "32B, 4 bits, 20 GB"},
    CatalogEntry{"deepseek-r1:70b", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "", "70B, bf16, 141 GB"},
    CatalogEntry{"deepseek-r1:671b", "deepseek-ai/DeepSeek-R1-0528", "", "671B, fp8, 689 GB"},
    CatalogEntry{"deepseek-v3", "deepseek-ai/DeepSeek-V3-0324", "", "671B, fp8, 689 GB"},
    CatalogEntry{"deepseek-v3.1", "deepseek-ai/DeepSeek-V3.1", "", "671B, fp8, 689 GB"},
    CatalogEntry{"deepseek-v2:16b", "deepseek-ai/DeepSeek-V2-Lite-Chat", "", "16B, bf16, 31 GB"},
    CatalogEntry{"deepseek-v2:236b", "deepseek-ai/DeepSeek-V2-Chat", "", "236B, bf16, 472 GB"},
    CatalogEntry{"deepseek-v2.5", "deepseek-ai/DeepSeek-V2.5-1210", "", "236B, bf16, 472 GB"},
    CatalogEntry{"deepseek-coder-v2:16b", "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct", "", "16B, bf16, 31 GB"},
    CatalogEntry{"deepseek-llm:7b", "deepseek-ai/deepseek-llm-7b-chat", "", "7B, bf16, 14 GB"},
    CatalogEntry{"deepseek-llm:67b", "deepseek-ai/deepseek-llm-67b-chat", "", "67B, bf16, 135 GB"},
    CatalogEntry{"smollm2:135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "", "135M, bf16, 0.3 GB"},
};

bool same_letter(char a, char b) {
  return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

bool glob(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

/// A part of a repository's name: letters, digits and "-_.", and no ".." that could leave a folder.
bool plain_part(std::string_view s) {
  const auto fine = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
  };
  return !s.empty() && s.size() <= 96 && s[0] != '.' && s.find("..") == std::string_view::npos &&
         std::ranges::all_of(s, fine);
}

}  // namespace

std::span<const CatalogEntry> catalog() {
  return kCatalog;
}

Result<ModelName> parse_model_name(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) {
    const std::string_view family = text.substr(0, text.find(':'));
    std::string close;
    for (const CatalogEntry& e : kCatalog) {
      if (e.name == text) return ModelName{std::string(e.repository), std::string(e.pattern)};
      if (e.name.substr(0, e.name.find(':')) == family) close += fmt::format("\n  {:24} {}", e.name, e.note);
    }
    return fail(ErrorCode::not_found, "'{}' is not in the catalog; {}", text,
                close.empty() ? "give ORG/NAME, or see the names with --list" : "these are close:" + close);
  }
  const std::size_t colon = text.find(':', slash);
  const std::string_view repository = text.substr(0, colon);
  if (!plain_part(repository.substr(0, slash)) || !plain_part(repository.substr(slash + 1)))
    return fail(ErrorCode::invalid_argument, "'{}' is no model name: expected ORG/NAME or ORG/NAME:PATTERN", text);
  return ModelName{std::string(repository),
                   colon == std::string_view::npos ? std::string() : std::string(text.substr(colon + 1))};
}

bool matches(std::string_view pattern, std::string_view path) {
  if (pattern.find_first_of("*?") != std::string_view::npos) return glob(pattern, path);
  if (!path.ends_with(".gguf")) return path == pattern;
  return std::search(path.begin(), path.end(), pattern.begin(), pattern.end(), same_letter) != path.end();
}

}  // namespace hp::hub
