#include "ops/notice/sender.h"

#include <chrono>

namespace hp::ops {
namespace {

constexpr std::size_t kMaxAnswerBytes = 64 << 10, kMaxQueuedMails = 256;
constexpr std::chrono::milliseconds kConnect{3'000}, kAnswer{8'000};

std::int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Sender::Sender(net::EventLoop& loop, net::HttpClient& client, std::string link)
    : loop_(loop), client_(client), link_(std::move(link)), mails_(1, kMaxQueuedMails) {}

void Sender::send(const Channel& channel, const std::vector<Notice>& notices, Notifier::Done done) {
  if (channel.kind != ChannelKind::mail)
    return post(channel, format_post(channel, notices, link_, wall_ms()), std::move(done));
  const auto shared = std::make_shared<Notifier::Done>(std::move(done));
  const bool taken =
      mails_.try_post([this, server = channel.mail_server, mail = format_mail(channel, notices, link_), shared] {
        Status status = net::send_mail(server, mail);
        loop_.post([shared, status = std::move(status)] { (*shared)(status); });
      });
  if (!taken) loop_.post([shared] { (*shared)(fail(ErrorCode::resource_exhausted, "too many mails wait")); });
}

void Sender::post(const Channel& channel, HttpPost post, Notifier::Done done) {
  struct Answer {
    int status = 0;
    std::string body;
  };
  const auto answer = std::make_shared<Answer>();
  net::ClientRequest request;
  request.method = "POST";
  request.host = channel.url.host;
  request.port = channel.url.port;
  request.tls = channel.url.tls;
  request.target = std::move(post.target);
  request.headers = std::move(post.headers);
  request.headers.emplace_back("Content-Type", post.content_type);
  request.body = std::move(post.body);
  request.connect_timeout = kConnect;
  request.read_timeout = kAnswer;
  request.max_body_bytes = kMaxAnswerBytes;
  request.keep_alive = false;
  client_.start(std::move(request),
                {.on_headers = [answer](int status, const net::Headers&) { answer->status = status; },
                 .on_data = [answer](std::string_view bytes) { answer->body += bytes; },
                 .on_done =
                     [answer, kind = channel.kind, done = std::move(done)](const Status& outcome) {
                       done(outcome ? judge_answer(kind, answer->status, answer->body) : outcome);
                     }});
}

}  // namespace hp::ops
