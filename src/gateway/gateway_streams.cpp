// A look at the streams of a gateway from outside, and the door beside its API.
#include <future>

#include "gateway/core.h"
#include "gateway/gateway.h"

namespace hp::gateway {
namespace {

StreamState state_of(StoredStream& stream) {
  const std::lock_guard lock(stream.mutex);
  StreamState state{.id = stream.record.id(),
                    .tenant = stream.tenant,
                    .model = stream.peek.model,
                    .prompt_tokens = stream.record.prompt_tokens(),
                    .tokens = stream.record.tokens(),
                    .complete = stream.record.complete(stream.peek.include_usage),
                    .legs = stream.legs};
  for (std::size_t i = 0; i < state.legs.size(); ++i) {
    const std::uint64_t end = i + 1 < state.legs.size() ? state.legs[i + 1].from_token : state.tokens;
    state.legs[i].tokens = end - std::min(end, state.legs[i].from_token);
  }
  return state;
}

}  // namespace

void Gateway::open_side_door(SideDoor door) {
  core_->side_door.store(door ? std::make_shared<const SideDoor>(std::move(door)) : nullptr);
  for (const auto& shard : shards_) {  // whoever stood in the old one has left when its loop has run a task
    std::promise<void> left;
    shard->loop->post([&left] { left.set_value(); });
    left.get_future().get();
  }
}

std::vector<StreamState> Gateway::streams(std::size_t limit) const {
  std::vector<StreamState> out;
  for (const auto& stream : core_->streams.some(limit)) out.push_back(state_of(*stream));
  return out;
}

std::optional<StreamState> Gateway::stream(std::string_view id) const {
  const auto found = core_->streams.look(id);
  if (!found) return std::nullopt;
  return state_of(*found);
}

}  // namespace hp::gateway
