#include "model/shard.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "base/check.h"
#include "base/thread_pool.h"

namespace hp {
namespace {

/// "blk.3.ffn_up_exps.17.weight" -> "ffn_up_exps"; "token_embd.weight" -> "token_embd".
std::string_view stem_of(std::string_view name) {
  if (name.starts_with("blk.")) name.remove_prefix(std::min(name.find('.', 4), name.size() - 1) + 1);
  return name.substr(0, name.find('.'));
}

bool is_stack_of_experts(std::string_view stem, const Shape& shape) {
  return stem.ends_with("_exps") && shape.rank() == 3;
}

/// Rows and columns that share scales: a cut goes between them.
struct Grain {
  std::int64_t rows = 1, columns = 1;
};
Grain grain_of(const ModelConfig& c, DType type) {
  if (type == DType::f8_e4m3 && c.fp8_block_rows > 0) return {c.fp8_block_rows, c.fp8_block_columns};
  return {1, std::int64_t{traits(type).block_size}};
}

}  // namespace

Result<ShardPlan> ShardPlan::make(const Checkpoint& checkpoint, RankOf rank) {
  const auto type_of = [&](std::string_view name) {
    const NamedTensor* tensor = checkpoint.find(name);
    HP_CHECK(tensor != nullptr, "tensor '{}' has not been checked", name);
    return tensor->view.dtype;
  };
  return make(checkpoint.config(), checkpoint.forms(), type_of, rank);
}

Result<ShardPlan> ShardPlan::make(const ModelConfig& config, TensorForms forms, const TypeOf& type_of, RankOf rank) {
  HP_CHECK(rank.world >= 1 && rank.rank >= 0 && rank.rank < rank.world, "rank {} of {}", rank.rank, rank.world);
  ShardPlan plan;
  plan.whole_ = plan.own_ = config;
  plan.rank_ = rank;
  const std::int32_t each = (config.vocab + rank.world - 1) / rank.world;
  plan.first_id_ = std::min(rank.rank * each, config.vocab);
  plan.ids_ = std::min(each, config.vocab - plan.first_id_);
  if (rank.rank * std::int64_t{each} >= config.vocab)
    return fail(ErrorCode::unsupported, "{}: a vocabulary of {} cannot be cut for {} ranks", config.name, config.vocab,
                rank.world);
  HP_TRY_VOID(plan.cut_heads());

  const std::vector<TensorSpec> table = tensor_table(config, forms);
  std::int64_t dense = 1, expert = 1;  // what gate and up's rows and down's columns allow together
  for (const TensorSpec& t : table) {
    const std::string_view stem = stem_of(t.name);
    if (!stem.starts_with("ffn_") || t.shape.rank() < 2 || stem == "ffn_gate_inp" || rank.world == 1) continue;
    const Grain grain = grain_of(config, type_of(t.name));
    std::int64_t& both = t.tensor_class == TensorClass::dense_ffn ? dense : expert;
    both = std::lcm(both, stem.starts_with("ffn_down") ? grain.columns : grain.rows);
  }
  HP_TRY(plan.ffn_, plan.cut_ffn("feed-forward", config.ffn, dense));
  plan.own_.ffn = static_cast<std::int32_t>(plan.ffn_.count);
  if (config.moe) {
    HP_TRY(plan.expert_ffn_, plan.cut_ffn("feed-forward of an expert", config.moe->expert_ffn, expert));
    plan.own_.moe->expert_ffn = static_cast<std::int32_t>(plan.expert_ffn_.count);
  }
  if (rank.world > 1)
    for (const TensorSpec& t : table) HP_TRY_VOID(plan.check(t, type_of(t.name)));
  return plan;
}

Status ShardPlan::cut_heads() {
  const std::int32_t world = rank_.world, heads = whole_.heads, kv = whole_.kv_heads;
  if (heads % world != 0)
    return fail(ErrorCode::unsupported, "{}: {} attention heads cannot be shared among {} ranks: expected a divisor",
                whole_.name, heads, world);
  own_.heads = heads / world;
  heads_ = {std::int64_t{rank_.rank} * own_.heads, own_.heads};
  if (whole_.mla) {
    own_.kv_heads = own_.heads;
    return {};
  }
  if (kv % world != 0 && world % kv != 0)
    return fail(ErrorCode::unsupported,
                "{}: {} key heads cannot be shared among {} ranks: expected that one number divides the other",
                whole_.name, kv, world);
  own_.kv_heads = std::max(kv / world, 1);
  kv_heads_ = {std::int64_t{rank_.rank} * kv / world, own_.kv_heads};
  return {};
}

Result<ShardPlan::Span> ShardPlan::cut_ffn(std::string_view what, std::int64_t size, std::int64_t grain) const {
  const std::int64_t blocks = (size + grain - 1) / grain;
  if (blocks < rank_.world && size > 0)
    return fail(ErrorCode::unsupported,
                "{}: a {} of {} in blocks of {} cannot be cut for {} ranks: its weights allow at most {}", whole_.name,
                what, size, grain, rank_.world, blocks);
  const Range r = split_range(static_cast<std::size_t>(size), rank_.rank, rank_.world, static_cast<std::size_t>(grain));
  return Span{static_cast<std::int64_t>(r.begin), static_cast<std::int64_t>(r.end - r.begin)};
}

TensorPart ShardPlan::part(std::string_view name, const Shape& shape) const {
  const std::string_view stem = stem_of(name);
  const std::int64_t columns = shape.rank() == 1 ? 1 : shape.inner();
  const std::int64_t rows = is_stack_of_experts(stem, shape) ? shape[1] : shape.elements() / columns;
  TensorPart p{.rows = rows, .columns = columns, .all_rows = rows, .all_columns = columns};
  // `unit`: rows or columns of one head, one id, one place of the feed-forward.
  const auto by_rows = [&](Span s, std::int64_t of) {
    const std::int64_t unit = rows / of;
    p.first_row = s.first * unit, p.rows = s.count * unit;
    return p;
  };
  const auto by_columns = [&](Span s, std::int64_t of) {
    const std::int64_t unit = columns / of;
    p.first_column = s.first * unit, p.columns = s.count * unit;
    return p;
  };
  if (rank_.world == 1) return p;
  if (stem == "token_embd" || stem == "output") return by_rows({first_id_, ids_}, whole_.vocab);
  if (stem == "attn_q" || stem == "attn_q_b" || stem == "attn_k_b" || stem == "attn_v_b" || stem == "attn_kv_b")
    return by_rows(heads_, whole_.heads);
  if (stem == "attn_k" || stem == "attn_v") return by_rows(kv_heads_, whole_.kv_heads);
  if (stem == "attn_output") return by_columns(heads_, whole_.heads);
  const bool expert = stem.ends_with("_exps") || stem.ends_with("_shexp");
  const Span ffn = expert ? expert_ffn_ : ffn_;
  const std::int64_t size = expert && whole_.moe ? whole_.moe->expert_ffn : whole_.ffn;
  if (stem.starts_with("ffn_up") || (stem.starts_with("ffn_gate") && stem != "ffn_gate_inp")) return by_rows(ffn, size);
  if (stem.starts_with("ffn_down")) return by_columns(ffn, size);
  return p;
}

/// Heads and shared experts are cut by what the model says: their ends must lie between blocks.
Status ShardPlan::check(const TensorSpec& t, DType type) const {
  if (t.shape.rank() == 1) return {};
  const TensorPart p = part(t.name, t.shape);
  const Grain grain = grain_of(whole_, type);
  const auto inside = [](std::int64_t at, std::int64_t all, std::int64_t block) { return at < all && at % block != 0; };
  const auto wrong = [&](const char* what, std::int64_t first, std::int64_t count, std::int64_t block) {
    return fail(ErrorCode::unsupported,
                "{}: '{}' ({}) cannot be cut for {} ranks: {} {} to {} of rank {} end inside a block of {}",
                whole_.name, t.name, traits(type).name, rank_.world, what, first, first + count, rank_.rank, block);
  };
  if (inside(p.first_row, p.all_rows, grain.rows) || inside(p.first_row + p.rows, p.all_rows, grain.rows))
    return wrong("rows", p.first_row, p.rows, grain.rows);
  if (inside(p.first_column, p.all_columns, grain.columns) ||
      inside(p.first_column + p.columns, p.all_columns, grain.columns))
    return wrong("columns", p.first_column, p.columns, grain.columns);
  return {};
}

}  // namespace hp
