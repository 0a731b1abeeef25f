// A relay whose first token is late asks a second node as well; who says the first token goes on, the other is
// cancelled. Both would say the same: the stream's id and seed are theirs in common.
#include "gateway/relay.h"

namespace hp::gateway {

// Never a long prompt: its prefill is work, and doubling it would make a full fleet fuller.
void Relay::plan_hedge() {
  const bool may = core_.hedging.on() && attempt_ == 1 && !begun_ && journalled_ && !resuming_ && !holding_ &&
                   peek().prompt_bytes <= kHedgeMaxPromptBytes;
  const auto late = may ? core_.hedging.late() : std::nullopt;
  if (!late) return;
  const auto left = std::chrono::duration_cast<milliseconds>(*late) + milliseconds(1);
  hedge_timer_ = shard_.loop->after(left, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->begin_hedge();
  });
}

void Relay::begin_hedge() {
  if (done_ || begun_ || !node_ || attempt_ != 1 || hedge_ || holding_ || !owns()) return;
  if (!core_.nodes.has_other(*node_, peek().model)) return;
  if (!core_.hedging.take()) return core_.metrics.hedges_refused.add();
  DispatchQuery query{.model = peek().model,
                      .cost_tokens = cost_,
                      .random = hash_text(stream_->record.id(), attempt_ + 1),
                      .avoid = node_};
  const auto node = core_.nodes.dispatch(query);
  if (!node) return;
  const NodeConfig& config = core_.nodes.config(*node);
  if (*node == *node_ || !config.homeport) return core_.nodes.release(*node, cost_);
  core_.metrics.hedges.add();
  hedge_.emplace(Hedge{.node = *node, .attempt = ++last_attempt_, .headers = {}, .bytes = {}});
  hedge_->handle = start_request(config, hedge_->attempt);
}

void Relay::on_hedge_headers(int status, const net::Headers& headers) {
  hedge_->status = status;
  hedge_->headers = headers;
}

void Relay::on_hedge_data(std::string_view bytes) {
  hedge_->bytes.append(bytes);
  if (hedge_->status != 200) return;
  if (hedge_->bytes.find("data: ") == std::string::npos) {
    if (hedge_->bytes.size() > kMaxHedgeBytes) drop_hedge();
    return;
  }
  core_.metrics.hedges_won.add();
  adopt_hedge();
}

void Relay::on_hedge_done(const Status& outcome) {
  core_.nodes.report(hedge_->node, outcome ? classify(hedge_->status) : Outcome::failure);
  drop_hedge();
}

void Relay::drop_hedge() {
  if (!hedge_) return;
  const Hedge hedge = *std::exchange(hedge_, std::nullopt);
  shard_.client->cancel(hedge.handle);
  core_.nodes.release(hedge.node, cost_);
}

// The second attempt becomes the attempt, with what it has said so far.
void Relay::adopt_hedge() {
  const Hedge hedge = *std::exchange(hedge_, std::nullopt);
  close_attempt();
  begin_attempt(hedge.node, hedge.attempt);
  handle_ = hedge.handle;
  if (hedge.status == 0) return;
  on_headers(hedge.status, hedge.headers);
  if (!hedge.bytes.empty()) on_data(hedge.bytes);
}

}  // namespace hp::gateway
