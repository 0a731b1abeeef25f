// From a model, a load and targets to machines: which, how many, how they are split, what they will do. Pure functions.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/engine_memory.h"
#include "planner/calibration.h"
#include "planner/document.h"
#include "planner/inputs.h"
#include "planner/queueing.h"

namespace hp::planner {

struct SizeInputs {
  double requests_per_second = 1;  ///< at the peak
  double prompt_tokens = 1000, output_tokens = 300, prefix_hit_share = 0.3, length_cv = 0.5;
  double context = 8192;  ///< longest prompt and answer together
  double ttft_p99_ms = 2000, itl_p99_ms = 100;
  double spare = 1;  ///< servers that may fail without missing the targets (N+1: 1)
  double years = 3, tariff_per_kwh = 0.8, pue = 1.4;
  double server_base_price = 60000;  ///< host without accelerators
  double server_slot_price = 15000;  ///< host, per accelerator: slots, power supply, memory, switch
};
std::span<const InputField<SizeInputs>> size_fields();

/// What the engine would allocate for a CPU node: step tokens and logit rows are given, KV is not counted.
using EngineMemoryOf =
    std::function<EngineMemory(const ModelConfig& model, const WeightFormat& format, std::int32_t step_tokens)>;

struct SizeRequest {
  SizeInputs inputs;
  std::string model_name;
  ModelConfig model;
  double max_tensor_parallel = 64;        ///< 1: what a node of this version can do by itself
  std::vector<std::string> formats;       ///< empty: bf16, fp8, int8, and int4 when nothing else fits
  std::vector<std::string> accelerators;  ///< ids; empty: those that Homeport runs on
  EngineMemoryOf engine_memory;           ///< empty: the files' bytes
};
/// Ranges, the model's own context, known formats: the error names the field and the nearest that would work.
Status validate(const SizeRequest& request, const std::vector<Accelerator>& catalog);

/// Bytes on all devices of one replica together.
struct MemoryPlan {
  double available = 0, weights = 0, step = 0, runtime = 0;
  double kv_per_token = 0, kv_tokens = 0;  ///< kv_tokens: how many fit in what is left; 0: the model does not fit
  [[nodiscard]] double kv_bytes() const { return kv_per_token * kv_tokens; }
};
MemoryPlan memory_plan(const ModelConfig& model, const WeightFormat& format, const Accelerator& device, double count,
                       double chunk_tokens, const EngineMemoryOf& engine_memory = {});

struct Configuration {
  Accelerator device;
  std::string format;
  double tensor_parallel = 1, replicas = 1, servers = 1, devices = 1;  ///< devices and servers include the spare ones
  double chunk_tokens = 512;
  MemoryPlan memory;
  ReplicaLatency latency;
  double capacity_rps = 0;  ///< of all replicas but the spare ones, within the targets
  double purchase = 0, kilowatts = 0, total_cost = 0;
  // the host
  double cpu_cores = 0, ram_gb = 0, disk_tb = 0, network_gbit = 0;
  std::string calibrated_on;
  bool transferred = false;  ///< the efficiencies were measured on another device
  bool own_nodes = false;    ///< Homeport's nodes run it; else another server program behind its gateway
};

enum class Tier { basic, performance };  ///< performance: half the latency targets, twice the load

struct SizeResult {
  std::vector<Configuration> basic, performance;  ///< what our own nodes run first, then by cost
  std::vector<std::string> rejected;              ///< why devices are not there, one line each
};

/// `calibrations` must not be empty.
SizeResult size_for(const SizeRequest& request, const std::vector<Accelerator>& catalog,
                    std::span<const Calibration> calibrations);

/// One given configuration: does the model fit, at which format, how fast.
struct Judgement {
  std::string format;
  MemoryPlan memory;
  bool fits = false;
  double first_token_ms = 0;     ///< 512-token prompt, alone
  double tokens_per_second = 0;  ///< one user
  double contexts = 0;           ///< whole contexts of the model that fit beside the weights
};
std::vector<Judgement> judge_hardware(const ModelConfig& model, const Accelerator& device, double count,
                                      std::span<const Calibration> calibrations);

/// Whether this version's nodes run a model in a format on `parallel` pieces of a device (docs/gpu.md).
bool runs_on_homeport(const ModelConfig& model, const Accelerator& device, std::string_view format, double parallel);

/// The calibration for a device: its own, or that of the same kind of machine (then `transferred`).
struct Chosen {
  const Calibration* calibration = nullptr;
  bool transferred = false;
};
Chosen choose_calibration(std::span<const Calibration> calibrations, const Accelerator& device);

Answer answer_size(const SizeRequest& request, const SizeResult& result, const std::vector<Accelerator>& catalog,
                   std::span<const Calibration> calibrations, Language language);

}  // namespace hp::planner
