#include "text/detokenizer.h"

#include <algorithm>

#include "base/utf8.h"

namespace hp {
namespace {

void append_step(std::string& out, std::string_view text, const Utf8Step& step) {
  if (step.valid) {
    out += text.substr(0, step.bytes);
  } else {
    append_utf8(out, 0xFFFD);
  }
}

}  // namespace

Detokenizer::Detokenizer(const Tokenizer& tokenizer, std::span<const std::string_view> visible)
    : tokenizer_(&tokenizer) {
  for (const std::string_view spelling : visible) {
    if (const auto id = tokenizer.special(spelling)) visible_.push_back(*id);
  }
}

void Detokenizer::push(TokenId id, std::string& out) {
  const bool spelled = std::find(visible_.begin(), visible_.end(), id) != visible_.end();
  held_ += spelled ? tokenizer_->token_text(id) : tokenizer_->token_bytes(id);
  std::string_view rest = held_;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    if (step.incomplete) break;
    append_step(out, rest, step);
    rest.remove_prefix(step.bytes);
  }
  held_.erase(0, held_.size() - rest.size());
}

void Detokenizer::finish(std::string& out) {
  std::string_view rest = held_;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    append_step(out, rest, step);
    rest.remove_prefix(step.bytes);
  }
  held_.clear();
}

}  // namespace hp
