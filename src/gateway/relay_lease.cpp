// What a relay does with the shared journal: a gateway that was frozen asks whether a stream is still its own before it
// says another word.
#include "gateway/relay.h"

namespace hp::gateway {

// True when the bytes were kept for later.
bool Relay::hold(std::string_view bytes) {
  if (!holding_ && (!core_.shared || core_.shared->may_emit(core_.clock.now()))) return false;
  held_.append(bytes);
  if (std::exchange(holding_, true)) return true;
  core_.shared->confirm([loop = shard_.loop.get(), weak = weak_from_this(), attempt = attempt_] {
    loop->post([weak, attempt] {
      if (const auto self = weak.lock()) self->release_held(attempt);
    });
  });
  return true;
}

void Relay::release_held(std::uint32_t attempt) {
  if (done_ || attempt != attempt_ || !node_ || !holding_) return;
  holding_ = false;
  if (!owns()) return close("taken over");
  const std::string bytes = std::exchange(held_, {});
  auto end = std::exchange(held_end_, {});
  on_data(bytes);
  if (!end || done_ || attempt != attempt_ || !node_) return;
  if (holding_)
    held_end_ = std::move(end);
  else
    on_done(*std::move(end));
}

}  // namespace hp::gateway
