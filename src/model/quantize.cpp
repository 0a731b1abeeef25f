#include "model/quantize.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "model/tensor_names.h"

namespace hp {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStateFile = "homeport-quantize.json", kCalibratedFolder = "homeport-calibrated";
constexpr std::uintmax_t kLargestCopiedFile = 256U << 20U;  // tokenizers and the like
constexpr std::size_t kSpareBytes = 16U << 20U, kCopyBytes = 16U << 20U;

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

void to_floats(DType type, const std::byte* in, std::span<float> out) {
  if (type == DType::f32) {
    std::memcpy(out.data(), in, out.size_bytes());
    return;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, in + i * 2, 2);
    out[i] = type == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
  }
}

/// One member's rows of a stripe: up to kFp8Block of them.
struct Stripe {
  std::vector<float> rows;
  std::vector<std::byte> values, scales;
  QuantError error;
};

void quantize_stripe(const PlannedTensor& t, std::int64_t group, std::int64_t first, std::int64_t count, Stripe& s) {
  const TensorView& view = t.source->view;
  const std::size_t k = z(view.shape[1]), n = z(count);
  s.rows.resize(n * k);
  to_floats(view.dtype, view.data + storage_bytes(view.dtype, z(first) * k), s.rows);
  WeightGrid grid(t.storage, view.shape[1], group);
  grid.fit(s.rows);
  s.error = {};
  for (std::size_t i = 0; i < s.rows.size(); ++i) {
    const float v = grid.nearest(i / k, i % k, s.rows[i]);
    s.error.add(s.rows[i], v);
    s.rows[i] = v;
  }
  s.values.resize(grid.value_bytes(n));
  s.scales.resize(grid.scale_bytes(n));
  grid.store(s.rows, s.values, s.scales);
}

using Classes = std::map<std::pair<std::string, WeightStorage>, QuantizedClass>;

class Run {
 public:
  Run(const QuantizeOptions& options, const QuantizePlan& plan, ParallelTeam& team)
      : options_(options),
        plan_(plan),
        team_(team),
        store_(options.output / kCalibratedFolder),
        stripes_(static_cast<std::size_t>(team.size())) {}

  /// What can be rounded by a text, if there is one and an earlier run has not done it.
  Status calibrate() {
    if (!options_.calibrate || store_.complete()) return {};
    HP_TRY_VOID(save_state(0));
    HP_TRY_VOID(options_.calibrate(plan_, store_));
    return store_.mark_complete();
  }

  Status write_shards(std::size_t first) {
    for (std::size_t s = 0; s < first; ++s) count_done(s);
    for (std::size_t s = first; s < plan_.shard_begin.size(); ++s) {
      HP_TRY_VOID(write_shard(s));
      HP_TRY_VOID(save_state(s + 1));
      const auto [begin, end] = shard_range(s);
      for (std::size_t i = begin; i < end; ++i) store_.remove(plan_.tensors[i].source->name);
    }
    store_.remove_all();
    return {};
  }
  Result<std::size_t> load_state(const std::string& identity);
  std::string identity;
  Classes classes;
  std::size_t calibrated = 0;

  [[nodiscard]] std::string shard_name(std::size_t index) const {
    if (plan_.shard_begin.size() == 1) return "model.safetensors";
    return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, plan_.shard_begin.size());
  }

 private:
  [[nodiscard]] std::pair<std::size_t, std::size_t> shard_range(std::size_t s) const {
    return {plan_.shard_begin[s], s + 1 < plan_.shard_begin.size() ? plan_.shard_begin[s + 1] : plan_.tensors.size()};
  }
  void count_done(std::size_t shard) {
    const auto [begin, end] = shard_range(shard);
    for (std::size_t i = begin; i < end; ++i) done_ += plan_.tensors[i].source->view.bytes();
  }
  void advance(std::size_t bytes) {
    done_ += bytes;
    if (options_.progress) options_.progress(done_, plan_.bytes_before);
  }
  Status write_shard(std::size_t shard);
  /// `entry` is the first of the tensor's outputs in the file.
  Status write_tensor(const PlannedTensor& t, std::size_t entry, SafetensorsWriter& out);
  Status write_rounded(const PlannedTensor& t, std::size_t entry, SafetensorsWriter& out);
  Status write_stripes(const PlannedTensor& t, std::size_t entry, SafetensorsWriter& out);
  Status save_state(std::size_t shards) const;

  const QuantizeOptions& options_;
  const QuantizePlan& plan_;
  ParallelTeam& team_;
  const RoundedStore store_;
  std::vector<Stripe> stripes_;
  std::size_t done_ = 0;
};

Status Run::write_shard(std::size_t shard) {
  const auto [begin, end] = shard_range(shard);
  std::vector<SafetensorsEntry> entries;
  for (std::size_t i = begin; i < end; ++i) {
    entries.insert(entries.end(), plan_.tensors[i].outputs.begin(), plan_.tensors[i].outputs.end());
  }
  HP_TRY(SafetensorsWriter out, SafetensorsWriter::create(options_.output / shard_name(shard), entries));
  for (std::size_t i = begin, entry = 0; i < end; entry += plan_.tensors[i].outputs.size(), ++i) {
    const PlannedTensor& t = plan_.tensors[i];
    HP_TRY_VOID(write_tensor(t, entry, out));
    QuantizedClass& c = classes[{std::string(t.class_name), t.storage}];
    ++c.tensors;
    c.parameters += z(t.source->view.shape.elements());
    c.bytes_before += t.source->view.bytes();
    c.bytes_after += t.output_bytes();
    t.file->file().release({t.source->view.data, t.source->view.bytes()});
  }
  return out.finish();
}

Status Run::write_tensor(const PlannedTensor& t, std::size_t entry, SafetensorsWriter& out) {
  const TensorView& view = t.source->view;
  if (t.storage == WeightStorage::copy) {
    HP_TRY_VOID(out.write(entry, 0, {view.data, view.bytes()}));
    advance(view.bytes());
    return {};
  }
  HP_TRY_VOID(store_.has(t.source->name) ? write_rounded(t, entry, out) : write_stripes(t, entry, out));
  if (t.storage != WeightStorage::int4) return {};
  const std::int64_t shape[2] = {view.shape[0], view.shape[1]};
  return out.write(entry + 2, 0, std::as_bytes(std::span(shape)));
}

Status Run::write_rounded(const PlannedTensor& t, std::size_t entry, SafetensorsWriter& out) {
  HP_TRY(const RoundedMatrix m, store_.read(t.source->name));
  if (m.values.size() != t.outputs[0].bytes() || m.scales.size() != t.outputs[1].bytes())
    return fail(ErrorCode::corrupt_data, "'{}' has {} bytes, expected {}: choose a new folder", m.file.path().string(),
                m.values.size() + m.scales.size(), t.outputs[0].bytes() + t.outputs[1].bytes());
  for (std::size_t at = 0; at < m.values.size(); at += kCopyBytes) {
    const auto piece = m.values.subspan(at, std::min(kCopyBytes, m.values.size() - at));
    HP_TRY_VOID(out.write(entry, at, piece));
    m.file.release(piece);
  }
  HP_TRY_VOID(out.write(entry + 1, 0, m.scales));
  classes[{std::string(t.class_name), t.storage}].error.add(m.error);
  ++calibrated;
  advance(t.source->view.bytes());
  return {};
}

Status Run::write_stripes(const PlannedTensor& t, std::size_t entry, SafetensorsWriter& out) {
  const TensorView& view = t.source->view;
  QuantError& error = classes[{std::string(t.class_name), t.storage}].error;
  std::size_t values_at = 0, scales_at = 0;
  const std::int64_t n = view.shape[0], step = kFp8Block * team_.size();
  for (std::int64_t row = 0; row < n; row += step) {
    team_.run([&](int member) {
      const std::int64_t first = row + kFp8Block * member;
      Stripe& s = stripes_[static_cast<std::size_t>(member)];
      s.values.clear();
      if (first < n) quantize_stripe(t, plan_.group, first, std::min(kFp8Block, n - first), s);
    });
    for (const Stripe& s : stripes_) {
      if (s.values.empty()) continue;
      HP_TRY_VOID(out.write(entry, values_at, s.values));
      HP_TRY_VOID(out.write(entry + 1, scales_at, s.scales));
      values_at += s.values.size();
      scales_at += s.scales.size();
      error.add(s.error);
    }
    advance(storage_bytes(view.dtype, z(std::min(step, n - row) * view.shape[1])));
  }
  return {};
}

Status write_file(const fs::path& path, std::string_view text) {
  const fs::path partial = path.string() + ".partial";
  {
    std::ofstream out(partial, std::ios::binary);
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    out.flush();
    if (!out) return fail(ErrorCode::io_error, "cannot write '{}'", partial.string());
  }
  std::error_code error;
  fs::rename(partial, path, error);
  if (error) return fail(ErrorCode::io_error, "cannot rename '{}': {}", partial.string(), error.message());
  return {};
}

Status Run::save_state(std::size_t shards) const {
  std::string text;
  JsonWriter w(text);
  w.begin_object().member("run", identity).member("shards", std::uint64_t{shards});
  w.member("calibrated", std::uint64_t{calibrated}).key("classes").begin_array();
  for (const auto& [key, c] : classes) {
    w.begin_object().member("name", key.first).member("storage", static_cast<int>(key.second));
    w.member("tensors", std::uint64_t{c.tensors}).member("parameters", std::uint64_t{c.parameters});
    w.member("before", std::uint64_t{c.bytes_before}).member("after", std::uint64_t{c.bytes_after});
    w.member("error", c.error.error).member("size", c.error.size).end_object();
  }
  w.end_array().end_object();
  return write_file(options_.output / kStateFile, text);
}

Result<std::string> read_text(const fs::path& path) {
  HP_TRY(const MappedFile file, MappedFile::open(path));
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

/// How many whole shards an earlier run of the same plan has left.
Result<std::size_t> Run::load_state(const std::string& own_identity) {
  identity = own_identity;
  const fs::path path = options_.output / kStateFile;
  std::error_code error;
  if (!fs::exists(path, error)) {
    if (fs::exists(options_.output, error) && !fs::is_empty(options_.output, error))
      return fail(ErrorCode::invalid_argument,
                  "'{}' is not empty and holds no unfinished run: choose a new folder for the output",
                  options_.output.string());
    return std::size_t{0};
  }
  HP_TRY(const std::string text, read_text(path));
  HP_TRY(const JsonValue state, JsonValue::parse(text));
  const JsonValue* run = state.find("run");
  if (run == nullptr || run->as_string() == nullptr || *run->as_string() != identity)
    return fail(ErrorCode::invalid_argument,
                "'{}' holds an unfinished run with another input or other options: finish that one, or choose a new "
                "folder",
                options_.output.string());
  const auto number = [](const JsonValue& object, std::string_view key) {
    const JsonValue* v = object.find(key);
    return v == nullptr ? 0.0 : v->as_double().value_or(0.0);
  };
  if (const JsonValue* list = state.find("classes"); list != nullptr && list->as_array() != nullptr) {
    for (const JsonValue& v : *list->as_array()) {
      const auto storage = static_cast<int>(number(v, "storage"));
      const JsonValue* name = v.find("name");
      if (name == nullptr || name->as_string() == nullptr || storage < 0 || storage > 3) continue;
      classes[{*name->as_string(), static_cast<WeightStorage>(storage)}] = {
          .name = *name->as_string(),
          .storage = static_cast<WeightStorage>(storage),
          .tensors = static_cast<std::size_t>(number(v, "tensors")),
          .parameters = static_cast<std::size_t>(number(v, "parameters")),
          .bytes_before = static_cast<std::size_t>(number(v, "before")),
          .bytes_after = static_cast<std::size_t>(number(v, "after")),
          .error = {.error = number(v, "error"), .size = number(v, "size")}};
    }
  }
  calibrated = static_cast<std::size_t>(std::max(0.0, number(state, "calibrated")));
  const auto shards = static_cast<std::size_t>(std::max(0.0, number(state, "shards")));
  for (std::size_t s = 0; s < shards; ++s) {
    if (s >= plan_.shard_begin.size() || !fs::exists(options_.output / shard_name(s), error))
      return fail(ErrorCode::corrupt_data, "'{}' names {} whole shards, but shard {} is missing: choose a new folder",
                  path.string(), shards, s + 1);
  }
  return shards;
}

std::string identity_of(const QuantizeOptions& o, const Checkpoint& checkpoint, const QuantizePlan& plan) {
  std::string text = fmt::format("{} {} {} {} {}", fs::absolute(o.input).string(), checkpoint.fingerprint(),
                                 to_string(o.choices.recipe), plan.group, plan.embeddings);
  for (const PlannedTensor& t : plan.tensors) text += fmt::format(" {} {}", t.source->name, to_string(t.storage));
  for (const std::size_t s : plan.shard_begin) text += fmt::format(" {}", s);
  text += " " + o.calibration;
  const Hash128 h = hash128(std::as_bytes(std::span(text)));
  return fmt::format("{:016x}{:016x}", h.high, h.low);
}

/// config.json with our quantization_config; everything else as it was.
Status write_config(const QuantizeOptions& o, const QuantizePlan& plan) {
  HP_TRY(const std::string text, read_text(o.input / "config.json"));
  HP_TRY(const JsonValue config, JsonValue::parse(text));
  std::string out;
  {
    JsonWriter w(out);
    w.begin_object();
    for (const auto& [key, value] : *config.as_object()) {
      if (key != "quantization_config") w.key(key).json(value);
    }
    w.key("quantization_config").raw(plan.quantization_config).end_object();
  }
  return write_file(o.output / "config.json", out + "\n");
}

Status write_index(const QuantizeOptions& o, const QuantizePlan& plan, const Run& run) {
  if (plan.shard_begin.size() == 1) return {};
  std::string out;
  {
    JsonWriter w(out);
    w.begin_object().key("metadata").begin_object().member("total_size", std::uint64_t{plan.bytes_after}).end_object();
    w.key("weight_map").begin_object();
    for (std::size_t s = 0, i = 0; s < plan.shard_begin.size(); ++s) {
      const std::size_t end = s + 1 < plan.shard_begin.size() ? plan.shard_begin[s + 1] : plan.tensors.size();
      for (; i < end; ++i) {
        for (const SafetensorsEntry& e : plan.tensors[i].outputs) w.member(e.name, run.shard_name(s));
      }
    }
    w.end_object().end_object();
  }
  return write_file(o.output / "model.safetensors.index.json", out + "\n");
}

/// Tokenizer, templates, generation settings: every small file that holds no weights.
Status copy_companions(const QuantizeOptions& o) {
  static const std::set<std::string, std::less<>> kWeightEndings = {".safetensors", ".bin", ".gguf", ".pt", ".pth"};
  std::error_code error;
  for (const fs::directory_entry& e : fs::directory_iterator(o.input, error)) {
    const std::string name = e.path().filename().string();
    if (!e.is_regular_file(error) || name == "config.json" || name.ends_with(".index.json") || name == kStateFile ||
        kWeightEndings.contains(e.path().extension().string()) || e.file_size(error) > kLargestCopiedFile) {
      continue;
    }
    fs::copy_file(e.path(), o.output / name, fs::copy_options::overwrite_existing, error);
    if (error) return fail(ErrorCode::io_error, "cannot copy '{}': {}", e.path().string(), error.message());
  }
  return {};
}

Status check_output(const QuantizeOptions& o) {
  std::error_code error;
  if (!fs::is_directory(o.input, error) || !fs::exists(o.input / "config.json", error))
    return fail(ErrorCode::invalid_argument,
                "'{}' is no folder with config.json and *.safetensors: quantize reads Hugging Face checkpoints",
                o.input.string());
  if (o.output.empty()) return fail(ErrorCode::invalid_argument, "no output folder is named");
  const fs::path in = fs::weakly_canonical(o.input, error), out = fs::weakly_canonical(o.output, error);
  if (in == out) return fail(ErrorCode::invalid_argument, "the output folder is the input folder: choose another");
  return {};
}

Status check_space(const QuantizeOptions& o, const QuantizePlan& plan) {
  std::error_code error;
  const fs::space_info space = fs::space(o.output, error);
  // What has been calibrated lies there beside the first shard that it is copied into.
  const std::size_t needed =
      plan.bytes_after + kSpareBytes + (o.calibrate ? std::min(o.choices.shard_bytes, plan.bytes_after) : 0);
  if (!error && space.available < needed)
    return fail(ErrorCode::resource_exhausted, "'{}' has {} MB free, the output needs {} MB", o.output.string(),
                space.available >> 20U, needed >> 20U);
  return {};
}

}  // namespace

Result<QuantizeReport> quantize_checkpoint(const QuantizeOptions& options, ParallelTeam& team) {
  HP_TRY_VOID(check_output(options));
  HP_TRY(const Checkpoint checkpoint, Checkpoint::open(options.input));
  HP_TRY(const std::vector<SafetensorsFile> shards, open_safetensors_folder(options.input));
  HP_TRY(const QuantizePlan plan, plan_quantization(checkpoint, shards, options.choices));
  Run run(options, plan, team);
  HP_TRY(const std::size_t resumed, run.load_state(identity_of(options, checkpoint, plan)));
  std::error_code error;
  std::filesystem::create_directories(options.output, error);
  if (error) return fail(ErrorCode::io_error, "cannot make '{}': {}", options.output.string(), error.message());
  if (resumed == 0) HP_TRY_VOID(check_space(options, plan));
  if (resumed == 0) HP_TRY_VOID(run.calibrate());
  HP_TRY_VOID(run.write_shards(resumed));
  HP_TRY_VOID(write_config(options, plan));
  HP_TRY_VOID(write_index(options, plan, run));
  HP_TRY_VOID(copy_companions(options));
  std::filesystem::remove(options.output / kStateFile, error);
  QuantizeReport report{.bytes_before = plan.bytes_before,
                        .bytes_after = plan.bytes_after,
                        .shards = plan.shard_begin.size(),
                        .resumed_shards = resumed,
                        .group = plan.group,
                        .calibrated = run.calibrated,
                        .classes = {},
                        .notes = plan.notes};
  for (auto& [key, c] : run.classes) {
    c.name = key.first;
    c.storage = key.second;
    report.classes.push_back(c);
  }
  return report;
}

}  // namespace hp
