// Sends notices over the wire: HTTP on a loop, mail on a worker thread.
#pragma once

#include <functional>
#include <memory>

#include "base/thread_pool.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "ops/notice/notifier.h"

namespace hp::ops {

class Sender {
 public:
  /// `loop` must outlive this; done() comes on it.
  Sender(net::EventLoop& loop, net::HttpClient& client, std::string link);
  void send(const Channel& channel, const std::vector<Notice>& notices, Notifier::Done done);

 private:
  void post(const Channel& channel, HttpPost post, Notifier::Done done);
  net::EventLoop& loop_;
  net::HttpClient& client_;
  const std::string link_;
  TaskQueue mails_;
};

}  // namespace hp::ops
