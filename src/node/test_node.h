// A node in the test's own process, over the fake executor: its vocabulary is the 256 bytes and ChatML's special
// tokens, so that most of what it "says" is not UTF-8.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/utf8.h"
#include "net/http_client.h"
#include "net/sse.h"
#include "node/node_server.h"
#include "sim/fake_executor.h"

namespace hp {

inline constexpr TokenId kTestImStart = 256, kTestImEnd = 257;
inline constexpr std::int32_t kTestVocab = 258;

inline TokenizerSource byte_tokenizer_source() {
  TokenizerSource s;
  s.pre = PreTokenizer::gpt2;
  std::uint32_t next = 256;
  for (std::uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    std::string token;
    append_utf8(token, printable ? b : next++);
    s.tokens.push_back(token);
    s.types.push_back(TokenType::normal);
  }
  for (const char* special : {"<|im_start|>", "<|im_end|>"}) {
    s.tokens.emplace_back(special);
    s.types.push_back(TokenType::control);
  }
  s.eos = kTestImEnd;
  s.end_of_generation = {kTestImEnd};
  return s;
}

inline NodeModel fake_model(FakeExecutorOptions device = {}) {
  device.vocab = kTestVocab;
  NodeModel m;
  m.config.vocab = kTestVocab;
  m.config.context = device.context;
  m.name = "fake";
  m.fingerprint = "fake";
  m.tokenizer = std::make_shared<const Tokenizer>(*Tokenizer::build(byte_tokenizer_source()));
  m.family = ChatFamily::chatml;
  m.stop_tokens = {kTestImEnd};
  m.trie = std::make_shared<const TokenTrie>(m.tokenizer, m.stop_tokens);
  m.executor = std::make_unique<FakeExecutor>(std::move(device));
  return m;
}

/// A fake Qwen3 that answers every chat with `text`.
inline NodeModel scripted_model(std::string_view text, FakeExecutorOptions device = {}) {
  device.script_after = {kTestImStart};
  for (const char c : std::string_view("assistant\n")) device.script_after.push_back(static_cast<unsigned char>(c));
  for (const char c : text) device.script.push_back(static_cast<unsigned char>(c));
  device.script.push_back(kTestImEnd);
  device.context = 4096;
  device.blocks = 2048;
  NodeModel m = fake_model(std::move(device));
  m.family = ChatFamily::qwen3;
  return m;
}

inline NodeOptions test_options() {
  NodeOptions o;
  o.port = 0;
  o.access_log = false;
  return o;
}

/// The answer to one request, its SSE events apart.
struct Answer {
  int status = 0;
  net::Headers headers;
  std::string body;
  std::vector<std::string> events;

  [[nodiscard]] JsonValue json() const {
    auto parsed = JsonValue::parse(body);
    EXPECT_TRUE(parsed) << body;
    return parsed ? *std::move(parsed) : JsonValue();
  }
  [[nodiscard]] std::string header(std::string_view name) const {
    for (const auto& [key, value] : headers)
      if (key == name) return value;
    return {};
  }
};

class TestNode {
 public:
  explicit TestNode(const NodeOptions& options = test_options(), FakeExecutorOptions device = {})
      : TestNode(options, fake_model(std::move(device))) {}
  TestNode(const NodeOptions& options, NodeModel model) : client(net::HttpClient::create()), host(options.address) {
    auto started = start_node(options, std::move(model));
    EXPECT_TRUE(started) << (started ? "" : started.error().message);
    server = *std::move(started);
  }
  [[nodiscard]] net::ClientRequest request(std::string method, std::string target, std::string body = {},
                                           net::Headers headers = {}) const {
    net::ClientRequest r;
    r.method = std::move(method);
    r.host = host;
    r.port = server->port();
    r.target = std::move(target);
    r.body = std::move(body);
    r.headers = std::move(headers);
    return r;
  }
  Answer ask(std::string method, std::string target, std::string body = {}, net::Headers headers = {}) const {
    auto got = client->fetch(request(std::move(method), std::move(target), std::move(body), std::move(headers)));
    EXPECT_TRUE(got) << (got ? "" : got.error().message);
    Answer a;
    if (!got) return a;
    a.status = got->status;
    a.headers = got->headers;
    a.body = got->body;
    net::SseParser parser;
    parser.push(a.body, [&](const net::SseEvent& e) { a.events.push_back(e.data); });
    return a;
  }
  Answer chat(std::string members, net::Headers headers = {}) const {
    return ask("POST", "/v1/chat/completions",
               R"({"model":"fake","messages":[{"role":"user","content":"Hello"}],)" + std::move(members) + "}",
               std::move(headers));
  }
  Answer complete(std::string members, net::Headers headers = {}) const {
    return ask("POST", "/v1/completions", R"({"model":"fake",)" + std::move(members) + "}", std::move(headers));
  }

  std::unique_ptr<NodeServer> server;
  std::unique_ptr<net::HttpClient> client;
  std::string host;
};

/// The member at `path` ("choices.0.text"), null when it is not there.
inline JsonValue at(const JsonValue& root, std::string_view path) {
  const JsonValue* v = &root;
  while (v != nullptr && !path.empty()) {
    const auto dot = path.find('.');
    const std::string_view part = path.substr(0, dot);
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
    if (const auto* array = v->as_array()) {
      const auto i = static_cast<std::size_t>(std::stoul(std::string(part)));
      v = i < array->size() ? &(*array)[i] : nullptr;
    } else {
      v = v->find(part);
    }
  }
  return v != nullptr ? *v : JsonValue();
}

inline std::string text_at(const JsonValue& root, std::string_view path) {
  const JsonValue v = at(root, path);
  return v.as_string() != nullptr ? *v.as_string() : std::string();
}

}  // namespace hp
