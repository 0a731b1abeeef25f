#include "arch/cuda/device_model.h"

#include <algorithm>
#include <cstring>

namespace hp::cuda {
namespace {

inline constexpr std::size_t kReserveBytes = std::size_t{2} << 30;  // left free when KV takes the rest
inline constexpr int kGraphDecodes = 512;                           // beyond, steps are launched kernel by kernel

inline constexpr int kDrawInts = sizeof(RowDraw) / sizeof(int);

int round_up(int value, int step) {
  return (value + step - 1) / step * step;
}

/// Sizes that graphs are made for: few enough to keep, close enough to waste little.
int bucket(int value) {
  if (value <= 4) return value <= 2 ? value : 4;
  int step = 4;
  while (value > 8 * step) step *= 2;
  return round_up(value, step);
}

}  // namespace

void StepLayout::place() {
  int at = 0;
  const auto take = [&](int count) {
    const int here = at;
    at += round_up(count, 4);
    return here;
  };
  at_token = take(tokens), at_position = take(tokens), at_slot = take(tokens), at_logit_row = take(rows);
  at_decode_row = take(decodes), at_decode_sequence = take(decodes), at_decode_length = take(decodes),
  at_decode_first = take(decodes);
  at_draw = take(kDrawInts * rows);
  at_work = take(2 * works), at_tile = take(4 * tiles), at_table = take(0);
  size = at + sequences * table_stride;
}

DeviceModel::DeviceModel(int device, const ModelShape& shape, const ModelOptions& options)
    : device_(device),
      shape_(shape),
      options_(options),
      attention_{shape.heads, shape.kv_heads, shape.head_dim},
      latent_{shape.heads, shape.latent.nope, shape.latent.v_dim} {}

DeviceModel::~DeviceModel() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (auto& [key, graph] : graphs_) cudaGraphExecDestroy(graph);
  for (void* pointer : allocations_) cudaFree(pointer);
  for (void* pointer :
       {static_cast<void*>(host_step_), static_cast<void*>(host_logits_), static_cast<void*>(host_drawn_), staging_}) {
    if (pointer != nullptr) cudaFreeHost(pointer);
  }
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

bool DeviceModel::fail(std::string sentence) {
  error_ = std::move(sentence);
  return false;
}

bool DeviceModel::check(const char* what) {
  const cudaError_t status = cudaGetLastError();
  if (status == cudaSuccess) return true;
  return fail(std::string("GPU ") + std::to_string(device_) + ": " + what + " failed: " + cudaGetErrorString(status));
}

bool DeviceModel::allocate(void** out, std::size_t bytes, const char* what) {
  if (cudaMalloc(out, std::max<std::size_t>(bytes, 256)) != cudaSuccess) {
    cudaGetLastError();
    std::size_t free_bytes = 0, total = 0;
    cudaMemGetInfo(&free_bytes, &total);
    return fail("GPU " + std::to_string(device_) + ": no memory for the " + what + ": wants " +
                std::to_string(bytes >> 20) + " MiB, " + std::to_string(free_bytes >> 20) + " MiB are free");
  }
  allocations_.push_back(*out);
  return true;
}

bool DeviceModel::allocate_matrix(Matrix& matrix, int n, int k, WeightType form) {
  set_form(matrix, form, options_.group);
  matrix.n = n, matrix.k = k;
  if (const int least = matrix.fp8 ? 3 * 128 : 3 * 64; matrix.ints.bits == 0 && k <= least)
    return fail("a [" + std::to_string(n) + ", " + std::to_string(k) + "] weight in " + (matrix.fp8 ? "fp8" : "bf16") +
                ": the GPU expects more than " + std::to_string(least) + " columns");
  if (!allocate(&matrix.data, matrix.bytes(), "weights")) return false;
  if (matrix.fp8 &&
      !allocate(reinterpret_cast<void**>(&matrix.scale), matrix.scales() * sizeof(float), "weight scales"))
    return false;
  weight_bytes_ += matrix.bytes() + (matrix.fp8 ? matrix.scales() * sizeof(float) : 0);
  if (matrix.ints.bits > 0) {  // what a tile holds beyond the matrix is 0
    cudaMemsetAsync(matrix.data, 0, matrix.bytes(), stream_);
    return true;
  }
  return make_maps(matrix) ||
         fail("the driver refused a tensor map of a [" + std::to_string(n) + ", " + std::to_string(k) + "] weight");
}

bool DeviceModel::allocate_activations(Activations& out, int rows, int k, bool fp8) {
  out.fp8 = fp8, out.rows = rows, out.k = k;
  const std::size_t bytes = static_cast<std::size_t>(rows) * static_cast<std::size_t>(k) * (fp8 ? 1U : 2U);
  if (!allocate(&out.data, bytes, "activations")) return false;
  if (fp8 && !allocate(reinterpret_cast<void**>(&out.row_scale), static_cast<std::size_t>(rows) * sizeof(float),
                       "activation scales"))
    return false;
  cudaMemsetAsync(out.data, 0, bytes, stream_);
  return make_maps(out) || fail("the driver refused a tensor map of [" + std::to_string(rows) + ", " +
                                std::to_string(k) + "] activations");
}

bool DeviceModel::check_shape() {
  const ModelShape& s = shape_;
  const auto number = [](int value) { return std::to_string(value); };
  if (latent()) {
    if (s.rope_dims != kLatentRope || s.heads % kLatentHeads != 0 || s.latent.nope % 16 != 0 ||
        s.latent.v_dim % 32 != 0 || s.latent.q_rank % 64 != 0)
      return fail("latent attention of " + number(s.heads) + " heads with " + number(s.rope_dims) +
                  " rotary dimensions: the GPU expects heads in multiples of 16 and 64");
  } else {
    if (s.head_dim != 128 && s.head_dim != 64)
      return fail("head_dim " + number(s.head_dim) + ": the GPU's attention knows 64 and 128");
    if (s.kv_heads <= 0 || s.heads % s.kv_heads != 0 || attention_.group() > 16)
      return fail("heads " + number(s.heads) + " over kv_heads " + number(s.kv_heads) +
                  ": groups of 1 to 16 are expected");
  }
  if (s.hidden % 64 != 0 || s.ffn % 32 != 0 || s.hidden > 16384)
    return fail("hidden " + number(s.hidden) + ", ffn " + number(s.ffn) +
                ": multiples of 64 and 32 are expected, hidden up to 16384");
  if (fp8() && (s.hidden % kQuantBlock != 0 || (!latent() && s.kv_heads * s.head_dim % 64 != 0)))
    return fail("fp8 weights want hidden in multiples of 128; run this model in bf16");
  if (ints() && options_.group != 32 && options_.group != 64 && options_.group != 128)
    return fail("groups of " + number(options_.group) + " columns: the GPU's whole numbers know 32, 64 and 128");
  const ExpertDims& e = s.experts;
  if (e.experts > 0 && (e.experts > kMostExperts || e.experts % 4 != 0 || e.chosen > kMostChosen || e.ffn % 64 != 0 ||
                        e.groups > 32 || e.experts % e.groups != 0))
    return fail("experts " + number(e.experts) + " of ffn " + number(e.ffn) + ", " + number(e.chosen) +
                " chosen: the GPU expects up to 256, an ffn in multiples of 64, up to 16 chosen");
  return true;
}

bool DeviceModel::create(const float* rope_cos, const float* rope_sin) {
  if (!check_shape()) return false;
  const ModelShape& s = shape_;
  cudaSetDevice(device_);
  if (cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking) != cudaSuccess) return check("a stream's creation");
  const std::size_t rope =
      static_cast<std::size_t>(s.context) * static_cast<std::size_t>(s.rope_dims / 2) * sizeof(float);
  if (!allocate(reinterpret_cast<void**>(&rope_cos_), rope, "rope table") ||
      !allocate(reinterpret_cast<void**>(&rope_sin_), rope, "rope table"))
    return false;
  cudaMemcpy(rope_cos_, rope_cos, rope, cudaMemcpyHostToDevice);
  cudaMemcpy(rope_sin_, rope_sin, rope, cudaMemcpyHostToDevice);
  if (cudaMallocHost(&staging_, kStagingBytes) != cudaSuccess) return check("pinned memory");
  return allocate(&device_staging_, kStagingBytes, "load buffer") &&
         allocate(&device_scales_, kStagingBytes / kQuantBlock, "load buffer") && allocate_weights() &&
         check("allocation");
}

bool DeviceModel::finish() {
  cudaSetDevice(device_);
  cudaStreamSynchronize(stream_);
  if (!check("loading")) return false;
  const ModelShape& s = shape_;
  // Keys and values of a layer's block; latent attention has one for both.
  const bool kv_fp8 = options_.kv == KvType::fp8;
  const std::size_t layer_block = latent() ? LatentShape::block_bytes(kv_fp8) : attention_.block_bytes(kv_fp8);
  block_bytes_ = (latent() ? 1 : 2) * layer_block * static_cast<std::size_t>(s.layers);
  if (!allocate_step()) return false;
  std::size_t free_bytes = 0, total = 0;
  cudaMemGetInfo(&free_bytes, &total);
  // Attention's scratch grows with the KV that decodes may read; bucket() adds up to a quarter.
  const int keys = latent() ? latent_.range() : kUnitKeys;
  const std::size_t work =
      5 * sizeof(float) / 4 * (latent() ? latent_scratch(latent_, 1) : attention_scratch(attention_, 1));
  const std::size_t fixed = kReserveBytes + work * static_cast<std::size_t>(options_.max_logit_rows + 1);
  std::size_t count = options_.kv_bytes / block_bytes_;
  if (options_.kv_bytes == 0 && free_bytes > fixed)
    count = (free_bytes - fixed) / (block_bytes_ + work / static_cast<std::size_t>(keys / kBlockTokens));
  blocks_ = static_cast<int>(std::min<std::size_t>(count, std::size_t{1} << 26));
  if (blocks_ < 1)
    return fail("GPU " + std::to_string(device_) + ": no memory for KV is left: " + std::to_string(free_bytes >> 20) +
                " MiB are free after the weights");
  for (Layer& layer : layers_) {
    const std::size_t bytes = layer_block * static_cast<std::size_t>(blocks_);
    layer.kv.fp8 = kv_fp8;
    for (void** pool : {&layer.kv.k, &layer.kv.v}) {
      if (latent() && pool == &layer.kv.v) continue;
      if (!allocate(pool, bytes, "KV cache")) return false;
      cudaMemsetAsync(*pool, 0, bytes, stream_);
    }
  }
  work_capacity_ = bucket(blocks_ / (keys / kBlockTokens) + options_.max_logit_rows + 1);
  const std::size_t scratch =
      latent() ? latent_scratch(latent_, work_capacity_) : attention_scratch(attention_, work_capacity_);
  if (!allocate(reinterpret_cast<void**>(&scratch_), scratch * sizeof(float), "attention scratch")) return false;
  cudaStreamSynchronize(stream_);
  return check("setting up");
}

bool DeviceModel::allocate_step() {
  const ModelShape& s = shape_;
  const int t = round_up(std::max(options_.max_step_tokens, kGraphDecodes), 128), r = options_.max_logit_rows;
  const auto rows = [&](int count, std::size_t element) {
    return static_cast<std::size_t>(t) * static_cast<std::size_t>(count) * element;
  };
  if (!allocate(reinterpret_cast<void**>(&x_), rows(s.hidden, 4), "activations") ||
      !allocate(reinterpret_cast<void**>(&projected_), rows(projection_rows(), 2), "activations") ||
      !allocate_activations(normed_, t, s.hidden, fp8()) ||
      !allocate_activations(attended_, t, attended_columns(), false) || !allocate_activations(act_, t, s.ffn, false) ||
      !allocate_activations(head_in_, round_up(r, 128), s.hidden, false)) {
    return false;
  }
  if (fp8() &&
      (!allocate_activations(attended8_, t, attended_columns(), true) || !allocate_activations(act8_, t, s.ffn, true)))
    return false;
  if (latent() &&
      (!allocate(reinterpret_cast<void**>(&queries_), rows(s.heads * kLatentKey, 2), "activations") ||
       !allocate(reinterpret_cast<void**>(&attended_latent_), rows(s.heads * kLatentDims, 2), "activations"))) {
    return false;
  }
  if (s.latent.q_rank > 0 &&
      (!allocate(reinterpret_cast<void**>(&raw_queries_), rows(query_rows(), 2), "activations") ||
       !allocate_activations(q_a_, t, s.latent.q_rank, fp8()))) {
    return false;
  }
  if (s.experts.experts > 0 && !allocate_experts_step(t)) return false;
  const std::size_t logits = static_cast<std::size_t>(r) * static_cast<std::size_t>(s.vocab) * sizeof(float);
  step_ints_ = static_cast<std::size_t>(16 * t + 4 * t) + (std::size_t{4} << 20);
  if (!allocate(reinterpret_cast<void**>(&logits_), logits, "logits") ||
      !allocate(reinterpret_cast<void**>(&drawn_), static_cast<std::size_t>(r) * 4U, "logits") ||
      !allocate(reinterpret_cast<void**>(&step_memory_), step_ints_ * sizeof(int), "step memory")) {
    return false;
  }
  cudaMemsetAsync(projected_, 0, rows(projection_rows(), 2), stream_);
  if (cudaMallocHost(reinterpret_cast<void**>(&host_step_), step_ints_ * sizeof(int)) != cudaSuccess ||
      cudaMallocHost(reinterpret_cast<void**>(&host_logits_), logits) != cudaSuccess ||
      cudaMallocHost(reinterpret_cast<void**>(&host_drawn_), static_cast<std::size_t>(r) * 4U) != cudaSuccess) {
    return check("pinned memory");
  }
  return true;
}

bool DeviceModel::allocate_experts_step(int t) {
  const ModelShape& s = shape_;
  const ExpertDims& e = s.experts;
  const int slots = round_up(t * e.chosen, 128);
  const auto ints = [&](void** out, int count) {
    return allocate(out, static_cast<std::size_t>(count) * 4U, "routing");
  };
  const std::size_t out_bytes = static_cast<std::size_t>(slots) * static_cast<std::size_t>(s.hidden) * 2U;
  if (!allocate_activations(expert_in_, slots, s.hidden, fp8()) ||
      !allocate_activations(expert_act_, slots, e.ffn, false) ||
      !allocate(reinterpret_cast<void**>(&expert_out_), out_bytes, "activations") ||
      !ints(reinterpret_cast<void**>(&router_logits_), t * e.experts) ||
      !ints(reinterpret_cast<void**>(&grouping_.token), slots) ||
      !ints(reinterpret_cast<void**>(&grouping_.slot), slots) ||
      !ints(reinterpret_cast<void**>(&grouping_.weight), slots) ||
      !ints(reinterpret_cast<void**>(&grouping_.expert), slots) ||
      !ints(reinterpret_cast<void**>(&grouping_.tile_count), 1) ||
      !ints(reinterpret_cast<void**>(&grouping_.tiles), 4 * (slots / 8 + e.experts))) {
    return false;
  }
  if (e.shared_ffn > 0 && !allocate_activations(shared_act_, t, e.shared_ffn, false)) return false;
  if (!fp8()) return true;
  return allocate_activations(normed16_, t, s.hidden, false) &&
         allocate_activations(expert_act8_, slots, e.ffn, true) &&
         (e.shared_ffn == 0 || allocate_activations(shared_act8_, t, e.shared_ffn, true));
}

/// Fills the host's step memory; `graph`: every sequence decodes one token, so that a recorded graph fits.
bool DeviceModel::plan(const PluginSequence* batch, int sequences, StepLayout& layout, bool& graph) {
  const int tile_tokens = latent() ? kLatentTile : prefill_tile_tokens(attention_);
  const int work_keys = latent() ? latent_.range() : kUnitKeys;
  int most_blocks = 1;
  layout = {};
  for (int i = 0; i < sequences; ++i) {
    const PluginSequence& s = batch[i];
    const int length = s.position + s.count;
    if (length > shape_.context)
      return fail("a sequence of " + std::to_string(length) + " positions, the context is " +
                  std::to_string(shape_.context));
    layout.tokens += s.count;
    layout.rows += s.logit_rows;
    most_blocks = std::max(most_blocks, (length + kBlockTokens - 1) / kBlockTokens);
    if (s.count == 1) {
      ++layout.decodes;
      layout.works += (length + work_keys - 1) / work_keys;
    } else {
      layout.tiles += (s.count + tile_tokens - 1) / tile_tokens;
    }
  }
  const int tokens = layout.tokens, rows = layout.rows;
  if (tokens > options_.max_step_tokens || rows > options_.max_logit_rows) {
    return fail("a step of " + std::to_string(tokens) + " tokens and " + std::to_string(rows) + " logit rows; " +
                std::to_string(options_.max_step_tokens) + " and " + std::to_string(options_.max_logit_rows) +
                " at most");
  }
  graph = layout.tiles == 0 && layout.decodes == sequences && rows == sequences &&
          sequences <= std::min(kGraphDecodes, options_.max_logit_rows);
  layout.sequences = sequences;
  layout.table_stride = most_blocks;
  if (graph) {
    layout.decodes = layout.tokens = layout.rows = layout.sequences =
        std::min(bucket(sequences), options_.max_logit_rows);
    layout.works = bucket(layout.works);
    layout.table_stride = 1;
    while (layout.table_stride < most_blocks) layout.table_stride *= 2;
  }
  layout.works = std::min(layout.works, work_capacity_);
  layout.place();
  if (static_cast<std::size_t>(layout.size) > step_ints_)
    return fail("the block tables of a step are larger than " + std::to_string(step_ints_) + " entries");

  int* m = host_step_;
  std::memset(m, 0, static_cast<std::size_t>(layout.at_table) * sizeof(int));
  for (int i = tokens; i < layout.tokens; ++i) m[layout.at_slot + i] = -1;
  for (int i = 0; i < layout.works; ++i) m[layout.at_work + 2 * i] = -1;
  int token = 0, row = 0, decode = 0, work = 0, tile = 0;
  for (int i = 0; i < sequences; ++i) {
    const PluginSequence& s = batch[i];
    const int length = s.position + s.count, used = (length + kBlockTokens - 1) / kBlockTokens;
    for (int b = 0; b < used; ++b) {
      if (s.blocks[b] < 0 || s.blocks[b] >= blocks_)
        return fail("KV block " + std::to_string(s.blocks[b]) + " of " + std::to_string(blocks_));
      m[layout.at_table + i * layout.table_stride + b] = s.blocks[b];
    }
    if (s.count == 1) {
      m[layout.at_decode_row + decode] = token, m[layout.at_decode_sequence + decode] = i;
      m[layout.at_decode_length + decode] = length, m[layout.at_decode_first + decode] = work;
      for (int u = 0; u * work_keys < length; ++u, ++work)
        m[layout.at_work + 2 * work] = decode, m[layout.at_work + 2 * work + 1] = u;
      ++decode;
    } else {
      for (int at = 0; at < s.count; at += tile_tokens, ++tile) {
        int* out = m + layout.at_tile + 4 * tile;
        out[0] = token + at, out[1] = i, out[2] = s.position + at, out[3] = std::min(tile_tokens, s.count - at);
      }
    }
    for (int at = 0; at < s.count; ++at) {
      const int position = s.position + at;
      if (s.tokens[at] < 0 || s.tokens[at] >= shape_.vocab)
        return fail("token " + std::to_string(s.tokens[at]) + " is not in the vocabulary of " +
                    std::to_string(shape_.vocab));
      m[layout.at_token + token + at] = s.tokens[at], m[layout.at_position + token + at] = position;
      m[layout.at_slot + token + at] = s.blocks[position / kBlockTokens] * kBlockTokens + position % kBlockTokens;
    }
    for (int at = s.count - s.logit_rows; at < s.count; ++at, ++row) {
      m[layout.at_logit_row + row] = token + at;
      const auto ahead = static_cast<std::uint64_t>(at - (s.count - s.logit_rows));
      const RowDraw draw{
          s.draw.temperature, s.draw.top_p, s.draw.min_p, s.draw.choice, s.draw.seed, s.draw.position + ahead, {}};
      std::memcpy(m + layout.at_draw + kDrawInts * row, &draw, sizeof draw);
    }
    token += s.count;
  }
  return true;
}

bool DeviceModel::launch_graph(const StepLayout& layout) {
  const std::pair<int, int> key{layout.decodes * 65536 + layout.table_stride, layout.works};
  auto found = graphs_.find(key);
  if (found == graphs_.end()) {
    cudaGraph_t graph = nullptr;
    if (cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal) != cudaSuccess)
      return check("recording a step");
    forward(layout);
    cudaGraphExec_t exec = nullptr;
    if (cudaStreamEndCapture(stream_, &graph) != cudaSuccess || cudaGraphInstantiate(&exec, graph, 0) != cudaSuccess)
      return check("recording a step");
    cudaGraphDestroy(graph);
    found = graphs_.emplace(key, exec).first;
  }
  return cudaGraphLaunch(found->second, stream_) == cudaSuccess || check("a step's launch");
}

bool DeviceModel::step(const PluginSequence* batch, int sequences, bool want_logits, bool want_drawn) {
  cudaSetDevice(device_);
  StepLayout layout;
  bool graph = false;
  int rows = 0;
  for (int i = 0; i < sequences; ++i) rows += batch[i].logit_rows;
  if (!plan(batch, sequences, layout, graph)) return false;
  cudaMemcpyAsync(step_memory_, host_step_, static_cast<std::size_t>(layout.size) * sizeof(int), cudaMemcpyHostToDevice,
                  stream_);
  if (graph) {
    if (!launch_graph(layout)) return false;
  } else {
    forward(layout);
  }
  last_rows_ = rows;
  if (want_logits && rows > 0) {
    cudaMemcpyAsync(host_logits_, logits_,
                    static_cast<std::size_t>(rows) * static_cast<std::size_t>(shape_.vocab) * sizeof(float),
                    cudaMemcpyDeviceToHost, stream_);
  }
  if (want_drawn && rows > 0)
    cudaMemcpyAsync(host_drawn_, drawn_, static_cast<std::size_t>(rows) * sizeof(int), cudaMemcpyDeviceToHost, stream_);
  if (cudaStreamSynchronize(stream_) != cudaSuccess) return check("a step");
  return check("a step");
}

void DeviceModel::use_fusions(unsigned fusions, std::size_t ahead_bytes, bool invariant) {
  options_.fusions = fusions, options_.invariant = invariant;
  ahead_bytes_ = ahead_bytes;
  for (auto& [key, graph] : graphs_) cudaGraphExecDestroy(graph);
  graphs_.clear();
}

bool DeviceModel::bring_logits() {
  cudaMemcpyAsync(host_logits_, logits_,
                  static_cast<std::size_t>(last_rows_) * static_cast<std::size_t>(shape_.vocab) * sizeof(float),
                  cudaMemcpyDeviceToHost, stream_);
  return cudaStreamSynchronize(stream_) == cudaSuccess || check("bringing logits");
}

void DeviceModel::describe(DeviceInfo& info) const {
  cudaDeviceProp properties = {};
  cudaGetDeviceProperties(&properties, device_);
  std::strncpy(info.name, properties.name, sizeof(info.name) - 1);
  info.blocks = blocks_, info.block_tokens = kBlockTokens, info.block_bytes = block_bytes_,
  info.weight_bytes = weight_bytes_;
  std::size_t total = 0;
  cudaMemGetInfo(&info.free_bytes, &total);
}

}  // namespace hp::cuda
