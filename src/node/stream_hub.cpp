#include "node/stream_hub.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace hp {

StreamHub::StreamHub(std::vector<net::EventLoop*> loops) {
  HP_CHECK(!loops.empty() && loops.size() <= (1U << kShardBits), "{} loops", loops.size());
  for (net::EventLoop* loop : loops) {
    shards_.push_back(std::make_unique<Shard>());
    shards_.back()->loop = loop;
  }
}

RequestId StreamHub::new_id(std::size_t shard) {
  return RequestId{(next_.fetch_add(1, std::memory_order_relaxed) << kShardBits) | shard};
}

StreamHub::Shard& StreamHub::shard_of(RequestId id) const {
  return *shards_.at(id.value & ((std::uint64_t{1} << kShardBits) - 1));
}

void StreamHub::on_step(std::vector<TokenEvent> events) {
  std::vector<std::vector<TokenEvent>> by_shard(shards_.size());
  for (TokenEvent& e : events)
    by_shard.at(e.request.value & ((std::uint64_t{1} << kShardBits) - 1)).push_back(std::move(e));
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    if (by_shard[i].empty()) continue;
    Shard& shard = *shards_[i];
    bool wake = false;
    {
      const std::lock_guard lock(shard.mutex);
      wake = shard.pending.empty();  // else the loop has been told and has not come yet
      std::ranges::move(by_shard[i], std::back_inserter(shard.pending));
    }
    if (!wake) continue;
    wakes_.fetch_add(1, std::memory_order_relaxed);
    shard.loop->post([&shard] { deliver(shard); });
  }
}

void StreamHub::deliver(Shard& shard) {
  std::vector<TokenEvent> events;
  {
    const std::lock_guard lock(shard.mutex);
    events.swap(shard.pending);
  }
  // Several steps may have come together: each reader still sees its own events in their order.
  std::ranges::stable_sort(events, {}, [](const TokenEvent& e) { return e.request.value; });
  for (auto begin = events.begin(); begin != events.end();) {
    const auto end =
        std::find_if(begin, events.end(), [&](const TokenEvent& e) { return e.request != begin->request; });
    const auto found = shard.readers.find(begin->request);
    if (found != shard.readers.end()) {
      const Reader reader = found->second;  // it may remove itself
      reader(std::span<const TokenEvent>(begin, end));
    }
    begin = end;
  }
}

void StreamHub::add(RequestId id, Reader reader) {
  Shard& shard = shard_of(id);
  HP_CHECK(shard.loop->inside(), "a reader is added on its own loop");
  if (shard.readers.emplace(id, std::move(reader)).second) ++readers_;
}

void StreamHub::remove(RequestId id) {
  Shard& shard = shard_of(id);
  HP_CHECK(shard.loop->inside(), "a reader is removed on its own loop");
  if (shard.readers.erase(id) > 0) --readers_;
}

void StreamHub::cut_all() {
  for (const auto& shard : shards_)
    shard->loop->post([s = shard.get()] {
      std::vector<Reader> all;
      for (const auto& [id, reader] : s->readers) all.push_back(reader);
      for (const Reader& reader : all) reader({});
    });
}

}  // namespace hp
