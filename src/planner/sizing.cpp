#include "planner/sizing.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "model/footprint.h"
#include "planner/weight_types.h"

namespace hp::planner {
namespace {

using F = InputField<SizeInputs>;
using S = SizeInputs;
constexpr std::array<F, 14> kFields = {
    F{"requests_per_second", &S::requests_per_second, "requests/s", 1e-6, 1e7, {"load at the peak", "峰值每秒请求数"}},
    F{"prompt_tokens", &S::prompt_tokens, "tokens", 1, 1e7, {"mean prompt length", "平均输入长度"}},
    F{"output_tokens", &S::output_tokens, "tokens", 1, 1e7, {"mean answer length", "平均输出长度"}},
    F{"prefix_hit_share",
      &S::prefix_hit_share,
      "",
      0,
      0.99,
      {"share of prompt tokens in the prefix cache", "前缀缓存命中率"}},
    F{"length_cv",
      &S::length_cv,
      "",
      0,
      3,
      {"spread of prompt lengths, standard deviation over mean", "输入长度的变异系数"}},
    F{"context", &S::context, "tokens", 2, 1e7, {"longest prompt and answer together", "最长上下文（输入加输出）"}},
    F{"ttft_p99_ms", &S::ttft_p99_ms, "ms", 1, 1e6, {"target: first token, 99th percentile", "目标：首词元延迟 P99"}},
    F{"itl_p99_ms", &S::itl_p99_ms, "ms", 0.1, 1e5, {"target: between tokens, 99th percentile", "目标：词元间隔 P99"}},
    F{"spare", &S::spare, "servers", 0, 100, {"servers that may fail (N+1: 1)", "可容忍故障的服务器数（N+1 为 1）"}},
    F{"years", &S::years, "years", 1, 10, {"time over which costs are compared", "比较成本的年数"}},
    F{"tariff_per_kwh", &S::tariff_per_kwh, "CNY", 0, 100, {"electricity price", "电价"}},
    F{"pue", &S::pue, "", 1, 5, {"power usage effectiveness", "PUE"}},
    F{"server_base_price", &S::server_base_price, "CNY", 0, 1e8, {"host without accelerators", "不含加速卡的整机价格"}},
    F{"server_slot_price",
      &S::server_slot_price,
      "CNY",
      0,
      1e8,
      {"host, per accelerator", "整机中每张加速卡对应的费用"}},
};

constexpr std::array<double, 6> kChunks = {8192, 4096, 2048, 1024, 512, 128};
constexpr double kMaxReplicas = 20000;
constexpr double kIdleShare = 0.25;  // of an accelerator's power when idle
constexpr double kHostWatts = 600;
constexpr double kRuntimeBytes = 1.5e9;  // per accelerator: context, libraries, communication buffers

struct Search {
  const SizeRequest& request;
  const ModelCosts& costs;
  double load = 1;           // requests/s
  double ttft = 1, itl = 1;  // seconds
};

bool meets(const Search& s, const ReplicaLatency& l, const MemoryPlan& memory) {
  const double tokens = s.request.inputs.prompt_tokens + s.request.inputs.output_tokens;
  return l.stable && l.first_token_p99 <= s.ttft && l.inter_token_p99 <= s.itl &&
         l.sequences_p99 * tokens <= memory.kv_tokens && memory.kv_tokens >= s.request.inputs.context;
}

ReplicaLoad load_of(const Search& s, double rps, double chunk) {
  const SizeInputs& in = s.request.inputs;
  return {.requests_per_second = rps,
          .prompt_tokens = in.prompt_tokens,
          .output_tokens = in.output_tokens,
          .prefix_hit_share = in.prefix_hit_share,
          .length_cv = in.length_cv,
          .chunk_tokens = chunk};
}

/// The most that one replica carries within the targets; 0: not even a trickle.
double replica_capacity(const Search& s, const Placement& placement, const MemoryPlan& memory, double chunk) {
  const auto works = [&](double rps) { return meets(s, replica_latency(placement, load_of(s, rps, chunk)), memory); };
  double low = 1e-6;
  if (!works(low)) return 0;
  double high = low;
  while (works(high) && high < 1e6) low = high, high *= 4;
  for (int i = 0; i < 24; ++i) {
    const double middle = std::sqrt(low * high);
    (works(middle) ? low : high) = middle;
  }
  return low;
}

void add_cost_and_host(const SizeInputs& in, Configuration& c) {
  const bool cpu = c.device.kind == Accelerator::Kind::cpu;
  c.purchase =
      c.devices * c.device.price + (cpu ? 0 : c.servers * in.server_base_price + c.devices * in.server_slot_price);
  const double busy = c.devices * c.device.power * (kIdleShare + (1 - kIdleShare) * c.latency.utilization);
  c.kilowatts = (busy + (cpu ? 0 : c.servers * kHostWatts)) / 1000;
  c.total_cost = c.purchase + in.years * 8760 * c.kilowatts * in.pue * in.tariff_per_kwh;
  const double per_server = std::ceil(c.devices / c.servers);
  c.cpu_cores = cpu ? 0 : std::max(16.0, 8 * per_server);
  const double weights_gb = c.memory.weights / 1e9 * std::max(1.0, std::floor(per_server / c.tensor_parallel));
  // RAM: the file's pages once and room for an evicted prefix cache; disk: two versions of the weights and the system.
  const auto power_of_two = [](double v) { return std::exp2(std::ceil(std::log2(v))); };
  c.ram_gb =
      cpu ? c.device.memory
          : power_of_two(std::max(
                64.0, 1.5 * weights_gb / std::max(1.0, std::floor(per_server / c.tensor_parallel)) + 32 * per_server));
  c.disk_tb = std::max(1.0, std::ceil(3 * c.memory.weights / 1e12 + 0.5));
  c.network_gbit = c.memory.weights > 3e11 ? 100 : c.memory.weights > 5e10 ? 25 : 10;
}

std::optional<Configuration> configure(const Search& s, const Accelerator& device, const WeightFormat& format,
                                       double parallel, const Chosen& chosen) {
  const SizeInputs& in = s.request.inputs;
  std::optional<Configuration> best;
  for (const double chunk : kChunks) {
    const MemoryPlan memory = memory_plan(s.request.model, format, device, parallel, chunk, s.request.engine_memory);
    if (memory.kv_tokens < in.context) continue;
    const Placement placement{.model = &s.costs,
                              .format = &format,
                              .kv_bytes_per_token = memory.kv_per_token,
                              .machine = {.device = device, .count = parallel},
                              .efficiency = chosen.calibration->of(format)};
    const double capacity = replica_capacity(s, placement, memory, chunk);
    if (capacity <= 0) continue;
    const double replicas = std::ceil(s.load / capacity * (1 - 1e-9));
    if (replicas > kMaxReplicas || (best && best->replicas <= replicas)) continue;
    Configuration c{.device = device,
                    .format = std::string(format.name),
                    .tensor_parallel = parallel,
                    .replicas = replicas,
                    .chunk_tokens = chunk,
                    .memory = memory,
                    .capacity_rps = replicas * capacity,
                    .calibrated_on = chosen.calibration->engine + " on " + chosen.calibration->device,
                    .transferred = chosen.transferred,
                    .own_nodes = runs_on_homeport(s.request.model, device, format.name, parallel)};
    const double per_server = std::max(1.0, std::floor(device.per_server / parallel));  // replicas in one server
    c.servers = std::ceil(replicas / per_server);
    c.devices = replicas * parallel + std::ceil(in.spare) * std::min(per_server, replicas) * parallel;
    c.servers += std::ceil(in.spare);
    c.latency = replica_latency(placement, load_of(s, s.load / replicas, chunk));
    add_cost_and_host(in, c);
    best = std::move(c);
  }
  return best;
}

std::vector<const WeightFormat*> formats_of(const SizeRequest& request, const Accelerator& device) {
  std::vector<const WeightFormat*> out;
  for (const std::string& name : request.formats) out.push_back(find_format(name));
  if (!out.empty()) return out;
  if (device.kind == Accelerator::Kind::cpu) return {find_format("bf16"), find_format("q8_0")};
  out.push_back(find_format("bf16"));
  if (device.fp8 > 0) out.push_back(find_format("fp8"));
  if (device.fp8 <= 0 && device.int8 > 0) out.push_back(find_format("int8"));
  return out;
}

struct DeviceResult {
  std::optional<Configuration> best;
  bool fits = false;
};

/// What our own nodes run comes first: a split over several devices, or a format without kernels, needs another server
/// program behind the gateway and is looked at where nothing of ours will do.
DeviceResult best_for_device(const Search& s, const Accelerator& device,
                             const std::vector<const WeightFormat*>& formats, const Chosen& chosen) {
  DeviceResult out;
  for (const WeightFormat* format : formats) {
    if (!runs_on_homeport(s.request.model, device, format->name, 1)) continue;
    std::optional<Configuration> c = configure(s, device, *format, 1, chosen);
    if (c && (!out.best || c->total_cost < out.best->total_cost)) out.best = std::move(c);
  }
  out.fits = out.best.has_value();
  if (out.best) return out;
  for (const WeightFormat* format : formats) {
    for (double parallel = 1; parallel <= std::min(device.per_server, s.request.max_tensor_parallel); parallel *= 2) {
      out.fits =
          out.fits ||
          memory_plan(s.request.model, *format, device, parallel, kChunks.back(), s.request.engine_memory).kv_tokens >=
              s.request.inputs.context;
      std::optional<Configuration> c = configure(s, device, *format, parallel, chosen);
      if (c && (!out.best || c->total_cost < out.best->total_cost)) out.best = std::move(c);
    }
  }
  return out;
}

}  // namespace

std::span<const InputField<SizeInputs>> size_fields() {
  return kFields;
}

Status validate(const SizeRequest& request, const std::vector<Accelerator>& catalog) {
  const SizeInputs& in = request.inputs;
  HP_TRY_VOID(check_inputs(size_fields(), in));
  if (in.context > request.model.context)
    return fail(ErrorCode::invalid_argument,
                "context: {} goes up to {} tokens, found {:.0f}; the nearest that works is {}", request.model_name,
                request.model.context, in.context, request.model.context);
  if (in.prompt_tokens + in.output_tokens > in.context)
    return fail(ErrorCode::invalid_argument,
                "prompt_tokens + output_tokens: expected at most context = {:.0f}, found {:.0f}; raise --context (the "
                "model allows {}) or ask for shorter ones",
                in.context, in.prompt_tokens + in.output_tokens, request.model.context);
  for (const std::string& name : request.formats) {
    if (find_format(name) == nullptr)
      return fail(ErrorCode::invalid_argument, "format: expected one of {}, found '{}'", format_names(), name);
  }
  for (const std::string& id : request.accelerators) {
    if (auto found = find_accelerator(catalog, id); !found) return fail(std::move(found).error());
  }
  return {};
}

MemoryPlan memory_plan(const ModelConfig& model, const WeightFormat& format, const Accelerator& device, double count,
                       double chunk_tokens, const EngineMemoryOf& engine_memory) {
  MemoryPlan out;
  out.available = device.usable_bytes() * count;
  if (device.kind == Accelerator::Kind::cpu && engine_memory) {
    const EngineMemory engine = engine_memory(model, format, static_cast<std::int32_t>(chunk_tokens));
    out.weights = static_cast<double>(engine.weights + engine.tables);
    out.step = static_cast<double>(engine.step);
  } else {
    const StepLimits limits{.rows = static_cast<std::int32_t>(chunk_tokens), .logit_rows = 64};
    out.weights = static_cast<double>(file_bytes(model, format));
    out.step = static_cast<double>(step_bytes(step_arrays(model, limits))) * count;
  }
  out.runtime = device.kind == Accelerator::Kind::cpu ? kRuntimeBytes : kRuntimeBytes * count;
  const KvLayout kv{.dtype = DType::f16};
  out.kv_per_token = static_cast<double>(kv_bytes_per_token(model, kv.dtype));
  // With fewer KV heads than devices (MLA: one latent) every device keeps a whole copy.
  const double heads = model.mla ? 1 : model.kv_heads;
  const double copies = std::max(1.0, count / heads);
  const double blocks = std::floor((out.available - out.weights - out.step - out.runtime) / copies /
                                   static_cast<double>(kv_bytes_per_block(model, kv)));
  out.kv_tokens = std::max(0.0, blocks * kv.block_tokens);
  return out;
}

Chosen choose_calibration(std::span<const Calibration> calibrations, const Accelerator& device) {
  HP_CHECK(!calibrations.empty(), "no calibration");
  const bool cpu = device.kind == Accelerator::Kind::cpu;
  const Calibration* best = nullptr;
  int best_rank = -1;
  for (const Calibration& c : calibrations) {
    if (c.device.starts_with("cpu") != cpu) continue;
    // The machine itself before another of its kind, our engine before another.
    const int rank = (c.device == device.id ? 2 : 0) + (c.engine == "homeport" ? 1 : 0);
    if (rank > best_rank) best = &c, best_rank = rank;
  }
  if (best == nullptr) best = &calibrations.front();
  return {best, best->device != device.id};
}

bool runs_on_homeport(const ModelConfig& model, const Accelerator& device, std::string_view format, double parallel) {
  if (!device.homeport || parallel > 1) return false;
  if (device.kind == Accelerator::Kind::cpu) return true;
  const bool attention = model.mla || model.head_dim == 64 || model.head_dim == 128;
  // int8 runs too, but at bf16's rate, and the format's costs assume int8's.
  return attention && (format == "bf16" || format == "fp8" || format == "int4");
}

SizeResult size_for(const SizeRequest& request, const std::vector<Accelerator>& catalog,
                    std::span<const Calibration> calibrations) {
  const ModelCosts costs = costs_of(request.model);
  const SizeInputs& in = request.inputs;
  SizeResult out;
  for (const Accelerator& device : catalog) {
    if (request.accelerators.empty() && (!device.homeport || device.id.starts_with("cpu-2core"))) continue;
    if (!request.accelerators.empty() &&
        std::find(request.accelerators.begin(), request.accelerators.end(), device.id) == request.accelerators.end())
      continue;
    const Chosen chosen = choose_calibration(calibrations, device);
    for (const Tier tier : {Tier::basic, Tier::performance}) {
      const double factor = tier == Tier::basic ? 1 : 2;
      const Search search{.request = request,
                          .costs = costs,
                          .load = in.requests_per_second * factor,
                          .ttft = in.ttft_p99_ms / 1000 / factor,
                          .itl = in.itl_p99_ms / 1000 / factor};
      DeviceResult found = best_for_device(search, device, formats_of(request, device), chosen);
      if (!found.fits && request.formats.empty()) {
        const std::string_view smaller = device.kind == Accelerator::Kind::cpu ? "q4_k_m" : "int4";
        found = best_for_device(search, device, {find_format(smaller)}, chosen);
      }
      if (found.best) (tier == Tier::basic ? out.basic : out.performance).push_back(std::move(*found.best));
      if (!found.best && tier == Tier::basic)
        out.rejected.push_back(fmt::format(
            "{}: {}", device.id, found.fits ? "misses the latency targets" : "the model does not fit into one server"));
    }
  }
  const auto cheaper = [](const Configuration& a, const Configuration& b) {
    return a.own_nodes != b.own_nodes ? a.own_nodes : a.total_cost < b.total_cost;
  };
  std::stable_sort(out.basic.begin(), out.basic.end(), cheaper);
  std::stable_sort(out.performance.begin(), out.performance.end(), cheaper);
  return out;
}

std::vector<Judgement> judge_hardware(const ModelConfig& model, const Accelerator& device, double count,
                                      std::span<const Calibration> calibrations) {
  constexpr double kPrompt = 512;
  const ModelCosts costs = costs_of(model);
  const Chosen chosen = choose_calibration(calibrations, device);
  std::vector<Judgement> out;
  for (const std::string_view name : {"bf16", "fp8", "int8", "int4"}) {
    const WeightFormat& format = *find_format(name);
    if (format.rate == WeightFormat::Rate::fp8 && device.fp8 <= 0) continue;
    Judgement j{.format = std::string(name), .memory = memory_plan(model, format, device, count, 512)};
    j.contexts = j.memory.kv_tokens / model.context;
    j.fits = j.memory.kv_tokens >= std::min<double>(model.context, 4096);
    const Placement placement{.model = &costs,
                              .format = &format,
                              .kv_bytes_per_token = j.memory.kv_per_token,
                              .machine = {.device = device, .count = count},
                              .efficiency = chosen.calibration->of(format)};
    j.first_token_ms = 1000 * prefill_seconds(placement, kPrompt);
    j.tokens_per_second = 1 / decode_step_seconds(placement, 1, kPrompt);
    out.push_back(std::move(j));
  }
  return out;
}

}  // namespace hp::planner
