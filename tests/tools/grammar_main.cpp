// Test tool: grammar_tool TOKENIZER.json < schemas > answers. Each input line is a JSON schema; each output line is
// {"text", "compile_us", "step_us": one figure a token} of an answer made of random allowed tokens, or {"error"}.
#include <time.h>

#include <algorithm>
#include <bit>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/grammar_matcher.h"
#include "text/hf_tokenizer.h"
#include "text/json_schema.h"

namespace {

/// Time that this thread has computed, which other work on the machine does not change.
double now_us() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

hp::Result<hp::Tokenizer> load(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  HP_TRY(auto source, hp::tokenizer_source_from_json({.tokenizer = text}));
  return hp::Tokenizer::build(std::move(source));
}

/// A random set bit, -1 for none.
hp::TokenId choose(const hp::TokenMask& mask, std::mt19937_64& random) {
  std::size_t count = 0;
  for (const std::uint64_t word : mask) count += static_cast<std::size_t>(std::popcount(word));
  if (count == 0) return -1;
  std::size_t skip = random() % count;
  for (std::size_t w = 0; w < mask.size(); ++w) {
    const auto here = static_cast<std::size_t>(std::popcount(mask[w]));
    if (skip >= here) {
      skip -= here;
      continue;
    }
    std::uint64_t word = mask[w];
    while (skip-- > 0) word &= word - 1;
    return static_cast<hp::TokenId>(w * 64 + static_cast<std::size_t>(std::countr_zero(word)));
  }
  return -1;
}

std::string answer(const std::string& schema, const std::shared_ptr<const hp::TokenTrie>& trie,
                   std::mt19937_64& random) {
  std::string out, text;
  hp::JsonWriter w(out);
  const double begin = now_us();
  const auto grammar = hp::json_schema_grammar(schema);
  w.begin_object();
  if (!grammar) {
    w.member("error", std::string_view(grammar.error().message)).end_object();
    return out;
  }
  hp::GrammarMatcher matcher(*grammar, trie);
  w.member("compile_us", now_us() - begin);
  std::vector<double> took;
  hp::TokenMask mask(trie->mask_words());
  for (int steps = 0; steps < 4000; ++steps) {
    std::fill(mask.begin(), mask.end(), ~std::uint64_t{0});
    double start = now_us();
    matcher.allowed(mask);
    const double masked = now_us() - start;
    hp::TokenId token = choose(mask, random);
    for (int tries = 0; steps % 3 == 2 && tries < 300; ++tries) {  // strings would hardly ever end by chance
      const hp::TokenId other = choose(mask, random);
      if (other < 0 || trie->bytes(other).find('"') == std::string_view::npos) continue;
      token = other;
      break;
    }
    if (token < 0 || std::find(trie->ends().begin(), trie->ends().end(), token) != trie->ends().end()) break;
    start = now_us();
    matcher.accept(token);
    took.push_back(masked + now_us() - start);
    text += trie->bytes(token);
  }
  w.member("finished", matcher.finished()).member("text", std::string_view(text)).key("step_us").begin_array();
  for (const double us : took) w.value(us);
  w.end_array().end_object();
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  auto tokenizer = load(argv[1]);
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str());
    return 1;
  }
  const auto shared = std::make_shared<const hp::Tokenizer>(*std::move(tokenizer));
  std::vector<hp::TokenId> ends = shared->source().end_of_generation;
  if (ends.empty()) ends.push_back(0);
  const auto trie = std::make_shared<const hp::TokenTrie>(shared, ends);
  std::mt19937_64 random(1);
  for (std::string line; std::getline(std::cin, line);) std::cout << answer(line, trie, random) << "\n";
  return 0;
}
