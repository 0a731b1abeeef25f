#include "sim/fake_stream.h"

#include <algorithm>
#include <charconv>

#include "base/json.h"
#include "sim/fake_node.h"

namespace hp {
namespace {

std::uint64_t header_number(const net::HttpRequest& request, std::string_view name, std::uint64_t otherwise) {
  const std::string_view text = request.header(name);
  std::uint64_t value = otherwise;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::int64_t integer_or(const JsonValue& body, std::string_view key, std::int64_t otherwise) {
  const JsonValue* v = body.find(key);
  return v != nullptr ? v->as_int().value_or(otherwise) : otherwise;
}

bool is_true(const JsonValue* v) {
  return v != nullptr && v->as_bool().value_or(false);
}

Status read_resume(const JsonValue& resume, FakeStream& stream) {
  const JsonValue* choices = resume.find("choices");
  if (choices == nullptr || choices->as_array() == nullptr) return fail(ErrorCode::invalid_argument, "resume: choices");
  for (const JsonValue& entry : *choices->as_array()) {
    const auto index = static_cast<std::size_t>(integer_or(entry, "index", -1));
    const JsonValue* ids = entry.find("token_ids");
    if (index >= stream.choices.size() || ids == nullptr || ids->as_array() == nullptr)
      return fail(ErrorCode::invalid_argument, "resume: a choice needs index and token_ids");
    auto& choice = stream.choices[index];
    if (choice.started) return fail(ErrorCode::invalid_argument, "resume: choice {} twice", index);
    choice.started = true;
    for (const JsonValue& id : *ids->as_array()) {
      const TokenId token = fake_token(stream.prompt, stream.seed, static_cast<std::uint32_t>(index), choice.position);
      if (id.as_int() != token)
        return fail(ErrorCode::invalid_argument, "resume: token {} is not this stream's", choice.position);
      choice.held = fake_held_back(stream.prompt, token) ? choice.held + fake_text(token) : std::string();
      ++choice.position;
      ++stream.resumed_tokens;
    }
    if (const JsonValue* reason = entry.find("finish_reason"); reason != nullptr && reason->as_string() != nullptr) {
      choice.finish_reason = *reason->as_string();
      choice.finish_sent = true;
    }
  }
  return {};
}

}  // namespace

Result<FakeStream> parse_fake_request(const net::HttpRequest& request, const std::string& model) {
  HP_TRY(const JsonValue body, JsonValue::parse(request.body));
  FakeStream stream;
  stream.chat = request.path == "/v1/chat/completions";
  const JsonValue* prompt = body.find(stream.chat ? "messages" : "prompt");
  if (prompt == nullptr) return fail(ErrorCode::invalid_argument, "a prompt is missing");
  if (const JsonValue* name = body.find("model");
      name != nullptr && name->as_string() != nullptr && *name->as_string() != model)
    return fail(ErrorCode::not_found, "the model '{}' does not exist", *name->as_string());
  stream.prompt = prompt->dump();
  stream.prompt_tokens = static_cast<std::int64_t>(stream.prompt.size() / 4);
  stream.stream = is_true(body.find("stream"));
  const JsonValue* options = body.find("stream_options");
  stream.include_usage = options != nullptr && is_true(options->find("include_usage"));
  stream.max_tokens = std::max<std::int64_t>(1, integer_or(body, "max_tokens", kFakeDefaultTokens));
  stream.choices.resize(static_cast<std::size_t>(std::clamp<std::int64_t>(integer_or(body, "n", 1), 1, 16)));
  stream.journal = request.header("homeport-journal") == "1";
  const auto seed = integer_or(body, "seed", -1);
  stream.seed = seed >= 0 ? static_cast<std::uint64_t>(seed) : header_number(request, "homeport-seed", 1);
  const std::string_view id = request.header("homeport-stream");
  stream.head = {.id = fmt::format("{}-{}", stream.chat ? "chatcmpl" : "cmpl", id.empty() ? "fake" : id),
                 .model = model,
                 .created = static_cast<std::int64_t>(header_number(request, "homeport-created", 0))};
  if (const JsonValue* resume = body.find("homeport_resume")) HP_TRY_VOID(read_resume(*resume, stream));
  return stream;
}

std::string FakeStream::chunk(std::uint32_t index, const api::ChoicePart& part, bool first, std::uint64_t at,
                              const std::vector<TokenId>& tokens) {
  std::string json =
      chat ? api::chat_chunk(head, part, first, include_usage) : api::text_chunk(head, part, include_usage);
  if (journal) {
    json.pop_back();
    json += fmt::format(R"(,"homeport":{{"choice":{},"index":{},"token_ids":[{}])", index, at, fmt::join(tokens, ","));
    if (!std::exchange(seed_said, true)) json += fmt::format(R"(,"seed":{},"prompt_tokens":{})", seed, prompt_tokens);
    json += "}}";
  }
  return "data: " + json + "\n\n";
}

void FakeStream::step_choice(std::uint32_t index, std::string& out) {
  Choice& c = choices[index];
  api::ChoicePart part{.index = static_cast<std::int32_t>(index), .text = {}, .finish_reason = {}, .logprobs = {}};
  if (!c.started && chat) out += chunk(index, part, true, c.position, {});
  c.started = true;
  const TokenId token = fake_token(prompt, seed, index, c.position);
  const bool at_end = static_cast<std::int64_t>(c.position) >= max_tokens;
  if (at_end || fake_stops(prompt, token, c.position)) {
    c.finish_reason = at_end ? "length" : "stop";
    part.finish_reason = c.finish_reason;
    part.text = std::exchange(c.held, {});
    c.text += part.text;
    c.finish_sent = true;
    out += chunk(index, part, false, c.position, {});
    return;
  }
  c.held += fake_text(token);
  if (!fake_held_back(prompt, token)) part.text = std::exchange(c.held, {});
  c.text += part.text;
  const bool silent = part.text.empty() && !journal;
  if (!silent) out += chunk(index, part, false, c.position, {token});
  ++c.position;
}

std::string FakeStream::step(bool& done) {
  std::string out;
  for (std::uint32_t i = 0; i < choices.size(); ++i)
    if (!choices[i].finish_sent) step_choice(i, out);
  done = std::ranges::all_of(choices, &Choice::finish_sent);
  if (!done || !stream) return out;
  if (include_usage)
    out += "data: " + (chat ? api::chat_usage_chunk(head, usage()) : api::text_usage_chunk(head, usage())) + "\n\n";
  return out + "data: [DONE]\n\n";
}

// What is cached differs from node to node and is left out, so that all nodes say the same.
api::Usage FakeStream::usage() const {
  api::Usage usage{.prompt_tokens = prompt_tokens};
  for (const Choice& c : choices) usage.completion_tokens += static_cast<std::int64_t>(c.position);
  return usage;
}

std::string FakeStream::whole() const {
  std::vector<api::ChoicePart> parts;
  for (std::size_t i = 0; i < choices.size(); ++i)
    parts.push_back({.index = static_cast<std::int32_t>(i),
                     .text = choices[i].text,
                     .finish_reason = choices[i].finish_reason,
                     .logprobs = {}});
  return chat ? api::chat_completion(head, parts, usage()) : api::text_completion(head, parts, usage());
}

}  // namespace hp
