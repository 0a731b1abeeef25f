#include "gateway/routes.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <optional>
#include <utility>

#include "api/chunk_writer.h"
#include "base/check.h"
#include "base/json.h"
#include "gateway/access_line.h"
#include "gateway/answers.h"
#include "gateway/metrics_page.h"
#include "gateway/reattach.h"
#include "gateway/relay.h"
#include "gateway/replay.h"
#include "net/sha256.h"

namespace hp::gateway {
namespace {
using net::HttpRequest;
using Writer = std::shared_ptr<net::ResponseWriter>;
constexpr std::string_view kStreamsPath = "/v1/streams/";

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Ids must not be guessable: the kernel's random bytes, fetched many at a time.
std::uint64_t random_word() {
  static thread_local std::array<std::uint64_t, 512> words;
  static thread_local std::size_t left = 0;
  if (left == 0) {
    const auto wanted = static_cast<ssize_t>(sizeof words);
    HP_CHECK(::getrandom(words.data(), sizeof words, 0) == wanted, "the kernel gives no random bytes");
    left = words.size();
  }
  return std::exchange(words[--left], 0);
}

net::TraceContext trace(const HttpRequest& request) {
  return net::trace_of(request, random_word(), random_word());
}

}  // namespace

void refuse(Core& core, const HttpRequest& request, const Writer& writer, net::HttpResponse answer,
            std::string_view tenant) {
  if (core.access) {
    const net::TraceContext context = trace(request);
    core.access->write(access_json({.trace = context.trace_id,
                                    .stream = {},
                                    .tenant = tenant,
                                    .method = request.method,
                                    .path = request.path,
                                    .model = {},
                                    .outcome = "refused",
                                    .status = answer.status},
                                   unix_seconds() * 1000));
  }
  writer->send(std::move(answer));
}

void give_token(Core& core, StoredStream& stream) {
  if (!core.admission.wants_keys()) return;
  stream.token = fmt::format("{:016x}{:016x}", random_word(), random_word());
  stream.token_sha256 = net::sha256_hex(stream.token);
}

void continue_relay(Shard& shard, const HttpRequest& request, std::shared_ptr<StoredStream> stream, Writer writer) {
  shard.core.metrics.reattached.add();
  std::make_shared<Relay>(
      shard,
      RelayStart{.stream = std::move(stream), .writer = std::move(writer), .trace = trace(request), .reattached = true})
      ->start();
}

namespace {

void send_json(const Writer& writer, int status, std::string body) {
  writer->send({.status = status, .headers = {}, .body = std::move(body)});
}

void answer_ready(Core& core, const Writer& writer) {
  const std::size_t usable = core.nodes.usable();
  const bool draining = core.draining;
  std::string body;
  JsonWriter json(body);
  json.begin_object();
  json.member("status", draining ? "draining" : usable > 0 ? "ready" : "no node is ready");
  json.member("usable_nodes", static_cast<std::int64_t>(usable));
  json.end_object();
  send_json(writer, draining || usable == 0 ? 503 : 200, std::move(body));
}

// The tenant, or nothing after the refusal was sent. What is admitted leaves with its relay.
std::optional<Admission::Verdict> admit(Core& core, const HttpRequest& request, const Writer& writer,
                                        Admission::Verdict verdict) {
  if (verdict.status == 200) return verdict;
  auto answer = error_answer(verdict.status, verdict.message);
  if (verdict.retry_after_s > 0) answer.headers.emplace_back("Retry-After", std::to_string(verdict.retry_after_s));
  refuse(core, request, writer, std::move(answer), verdict.tenant);
  return std::nullopt;
}

std::optional<Admission::Verdict> admit(Core& core, const HttpRequest& request, const Writer& writer,
                                        std::int64_t cost) {
  return admit(core, request, writer, core.admission.enter(request.header("authorization"), cost));
}

void start_relay(Shard& shard, const HttpRequest& request, std::shared_ptr<StoredStream> stream, Writer writer,
                 const RequestTerms& terms, const Admission::Verdict& admitted, std::int64_t charged,
                 const std::optional<ReuseKey>& key = std::nullopt) {
  answer_or_generate(shard,
                     {.stream = std::move(stream),
                      .writer = std::move(writer),
                      .trace = trace(request),
                      .charged_tokens = charged,
                      .terms = terms,
                      .priority = terms.priority(admitted.priority)},
                     key);
}

// Which earlier answer may stand for this request, if any.
Result<std::optional<ReuseKey>> reusable(Core& core, const HttpRequest& request, const StoredStream& stream) {
  const std::string_view idempotency = request.header("idempotency-key");
  if (idempotency.size() > kMaxIdempotencyKeyBytes)
    return fail(ErrorCode::invalid_argument, "Idempotency-Key: expected at most {} bytes, found {}",
                kMaxIdempotencyKeyBytes, idempotency.size());
  const std::string_view control = request.header("cache-control");
  const bool wanted =
      control.find("no-cache") == std::string_view::npos && control.find("no-store") == std::string_view::npos;
  const bool cache = core.replies.options().cache && wanted && stream.peek.deterministic();
  return reuse_key({.tenant = stream.tenant,
                    .target = request.path,
                    .body = *stream.body,
                    .identity = cache ? core.nodes.identity(stream.peek.model) : std::string(),
                    .deterministic = stream.peek.deterministic(),
                    .cache = cache,
                    .idempotency_key = idempotency});
}

void handle_generation(Shard& shard, HttpRequest request, Writer writer) {
  Core& core = shard.core;
  auto peek = peek_request(request.body);
  if (!peek) return refuse(core, request, writer, error_answer(400, peek.error().message));
  if (peek->has_resume)
    return refuse(core, request, writer,
                  error_answer(400, "'homeport_resume' is not a client's parameter; leave it out."));
  const std::string_view last_event = request.header("last-event-id");
  if (peek->stream && !last_event.empty()) {
    const auto position = parse_event_id(last_event);
    if (!position) return refuse(core, request, writer, error_answer(400, position.error().message));
    auto admitted = admit(core, request, writer, 0);
    if (!admitted) return;
    return reattach_post(shard, std::move(request), *position, *std::move(peek), std::move(writer),
                         std::move(admitted->tenant));
  }
  const auto terms = read_terms(request, *peek);
  if (!terms) return refuse(core, request, writer, error_answer(400, terms.error().message));
  const std::int64_t cost = peek->cost_tokens();
  const auto admitted = admit(core, request, writer, cost);
  if (!admitted) return;
  auto stream =
      std::make_shared<StoredStream>(make_stream_id(unix_seconds(), random_word(), random_word()), *std::move(peek));
  stream->tenant = admitted->tenant;
  stream->target = request.target;
  stream->body = std::make_shared<const std::string>(std::move(request.body));
  if (stream->peek.stream) give_token(core, *stream);
  const auto key = reusable(core, request, *stream);
  if (!key) {
    core.admission.leave(stream->tenant, cost, 0);
    return refuse(core, request, writer, error_answer(400, key.error().message), stream->tenant);
  }
  start_relay(shard, request, std::move(stream), std::move(writer), *terms, *admitted, cost, *key);
}

std::string_view query_value(std::string_view target, std::string_view name) {
  auto at = target.find('?');
  while (at != std::string_view::npos) {
    const auto end = target.find('&', at + 1);
    const std::string_view part = target.substr(at + 1, end == std::string_view::npos ? end : end - at - 1);
    if (part.starts_with(name) && part.substr(name.size()).starts_with('=')) return part.substr(name.size() + 1);
    at = end;
  }
  return {};
}

// A browser's EventSource sends no key: its URL has the stream's own token.
void handle_stream_get_by_token(Shard& shard, HttpRequest request, Writer writer) {
  Core& core = shard.core;
  const std::string id = request.path.substr(kStreamsPath.size());
  const std::string hash = net::sha256_hex(query_value(request.target, "token"));
  auto then = [&shard, request = std::move(request), writer = std::move(writer)](const std::string& tenant) mutable {
    auto admitted = admit(shard.core, request, writer, shard.core.admission.enter_as(tenant, 0));
    if (admitted) reattach_get(shard, std::move(request), std::move(writer), std::move(admitted->tenant));
  };
  if (const auto local = core.streams.find_by_token(id, hash)) return then(local->tenant);
  if (!core.shared || !valid_stream_id(id)) return then({});
  core.shared->owner_of(id, hash, [&shard, then = std::move(then)](std::string tenant) mutable {
    const auto run = std::make_shared<std::function<void()>>(
        [then = std::move(then), tenant = std::move(tenant)]() mutable { then(tenant); });
    shard.loop->post([run] { (*run)(); });
  });
}

void handle_stream_get(Shard& shard, HttpRequest request, Writer writer) {
  const bool keyless = request.header("authorization").empty() && shard.core.admission.wants_keys();
  if (keyless && !query_value(request.target, "token").empty())
    return handle_stream_get_by_token(shard, std::move(request), std::move(writer));
  auto admitted = admit(shard.core, request, writer, 0);
  if (admitted) reattach_get(shard, std::move(request), std::move(writer), std::move(admitted->tenant));
}

// Anything else under /v1/ with a body: forwarded whole, repeated on failure.
void handle_other(Shard& shard, HttpRequest request, Writer writer) {
  RequestPeek peek;
  if (auto seen = peek_request(request.body)) peek = *std::move(seen);
  peek.stream = false;
  const auto terms = read_terms(request, peek);
  if (!terms) return refuse(shard.core, request, writer, error_answer(400, terms.error().message));
  const std::int64_t cost = peek.cost_tokens();
  const auto admitted = admit(shard.core, request, writer, cost);
  if (!admitted) return;
  auto stream =
      std::make_shared<StoredStream>(make_stream_id(unix_seconds(), random_word(), random_word()), std::move(peek));
  stream->tenant = admitted->tenant;
  stream->target = request.target;
  stream->body = std::make_shared<const std::string>(std::move(request.body));
  start_relay(shard, request, std::move(stream), std::move(writer), *terms, *admitted, cost);
}

// What we pass on must mean the same to every server: no escapes, no steps up, no empty parts.
bool is_plain_path(std::string_view path) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' || c == '_' ||
           c == '-' || c == '.';
  };
  return path.starts_with("/v1/") && std::ranges::all_of(path, plain) && path.find("//") == std::string_view::npos &&
         path.find("/.") == std::string_view::npos;
}

// What is not the API's belongs to whoever stands at the side door.
bool through_side_door(Shard& shard, HttpRequest& request, Writer& writer) {
  const auto door = request.path.starts_with("/v1/") ? nullptr : shard.core.side_door.load();
  return door && *door && (*door)(request, writer, [&shard](HttpRequest inner, Writer to) {
           std::erase_if(inner.headers, [](const auto& header) { return header.first == "authorization"; });
           inner.headers.emplace_back("authorization", shard.core.inside_authorization);
           handle_request(shard, std::move(inner), std::move(to));
         });
}

}  // namespace

void handle_request(Shard& shard, HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) {
  Core& core = shard.core;
  if (through_side_door(shard, request, writer)) return;
  const std::string& path = request.path;
  const bool get = request.method == "GET" || request.method == "HEAD";
  if (request.method == "POST") {
    if (path == "/v1/chat/completions" || path == "/v1/completions")
      return handle_generation(shard, std::move(request), std::move(writer));
    if (is_plain_path(path)) return handle_other(shard, std::move(request), std::move(writer));
  }
  if (get) {
    if (path == "/health" || path == "/live") return send_json(writer, 200, R"({"status":"ok"})");
    if (path == "/ready") return answer_ready(core, writer);
    if (path == "/metrics") return answer_metrics(shard, std::move(writer));
    if (path == "/v1/models" && core.admission.identify(request.header("authorization")).status != 200)
      return writer->send(error_answer(401, "The API key is missing or not known here."));
    if (path == "/v1/models") return send_json(writer, 200, api::models_list(core.nodes.models(), unix_seconds()));
    if (path.starts_with(kStreamsPath)) return handle_stream_get(shard, std::move(request), std::move(writer));
  }
  writer->send(error_answer(404, fmt::format("There is no {} {} here.", request.method, path)));
}

}  // namespace hp::gateway
