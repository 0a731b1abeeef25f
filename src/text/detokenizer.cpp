#include "text/detokenizer.h"

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

void Detokenizer::push(TokenId id, std::string& out) {
  held_ += tokenizer_->token_bytes(id);
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
