// `inspect`: what a model's files hold, without loading it.
#include <cstdio>
#include <map>
#include <memory>

#include "base/json.h"
#include "cli/command.h"
#include "cli/machine.h"
#include "model/checkpoint.h"
#include "model/compressed_tensors.h"
#include "model/footprint.h"
#include "model/gguf_file.h"

namespace hp::cli {
namespace {

constexpr std::size_t kShownArrayElements = 8, kShownTextBytes = 100;

struct InspectOptions {
  std::string path;
  bool json = false, tensors = false, metadata = false;
};

struct Totals {
  std::size_t bytes = 0, parameters = 0;
  std::map<std::string, std::size_t> bytes_by_type;
};

Totals totals(const Checkpoint& checkpoint) {
  Totals out;
  for (const NamedTensor& t : checkpoint.tensors()) {
    if (is_compressed(t)) continue;  // its parts are listed themselves
    out.bytes += t.view.bytes();
    out.parameters += static_cast<std::size_t>(t.view.shape.elements());
    out.bytes_by_type[std::string(traits(t.view.dtype).name)] += t.view.bytes();
  }
  return out;
}

std::string shortened(std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  if (text.size() > kShownTextBytes) text = text.substr(0, kShownTextBytes) + fmt::format("… ({} bytes)", text.size());
  return text;
}

std::string value_text(const GgufFile::Value& value) {
  return std::visit(
      [](const auto& v) {
        if constexpr (requires { v.size(); } && !std::is_same_v<std::decay_t<decltype(v)>, std::string>) {
          std::string out = fmt::format("[{}]", v.size());
          for (std::size_t i = 0; i < std::min(v.size(), kShownArrayElements); ++i) out += fmt::format(" {}", v[i]);
          return shortened(out + (v.size() > kShownArrayElements ? " …" : ""));
        } else {
          return shortened(fmt::format("{}", v));
        }
      },
      value);
}

std::string as_text(const Checkpoint& checkpoint, const InspectOptions& o) {
  const ModelConfig& c = checkpoint.config();
  const Totals sum = totals(checkpoint);
  std::string out = fmt::format("{}  ({})\n", c.name.empty() ? o.path : c.name, to_string(c.architecture));
  out += fmt::format("layers {}, hidden {}, feed-forward {}, vocabulary {}, context {}\n", c.layers, c.hidden, c.ffn,
                     c.vocab, c.context);
  out += fmt::format("attention: {} heads, {} KV heads, head size {}{}\n", c.heads, c.kv_heads, c.head_dim,
                     c.mla ? fmt::format(", latent {} + {}", c.mla->kv_lora_rank, c.mla->qk_rope_dim) : "");
  if (c.moe)
    out += fmt::format("experts: {} of {} per token, {} shared\n", c.moe->experts_per_token, c.moe->experts,
                       c.moe->shared_experts);
  out += fmt::format("weights: {} tensors, {:.1f} million parameters, {}\n", checkpoint.tensors().size(),
                     static_cast<double>(sum.parameters) / 1e6, bytes_text(sum.bytes));
  for (const auto& [type, bytes] : sum.bytes_by_type) out += fmt::format("  {:<8} {}\n", type, bytes_text(bytes));
  out += fmt::format("KV cache: {} per token in f16, {} for the whole context\n",
                     bytes_text(kv_bytes_per_token(c, DType::f16)),
                     bytes_text(kv_bytes_per_token(c, DType::f16) * static_cast<std::size_t>(c.context)));
  out += fmt::format("fingerprint {}\n", checkpoint.fingerprint());
  if (o.metadata && checkpoint.gguf() != nullptr) {
    out += "\nMetadata:\n";
    for (const auto& [key, value] : checkpoint.gguf()->metadata())
      out += fmt::format("  {} = {}\n", key, value_text(value));
  }
  if (!o.tensors) return out;
  out += "\nTensors:\n";
  for (const NamedTensor& t : checkpoint.tensors())
    out += fmt::format("  {:<36} {:<8} {:<20} {}\n", t.name, traits(t.view.dtype).name, t.view.shape.to_string(),
                       bytes_text(t.view.bytes()));
  return out;
}

void write_tensors(JsonWriter& w, const Checkpoint& checkpoint) {
  w.key("tensors").begin_array();
  for (const NamedTensor& t : checkpoint.tensors()) {
    w.begin_object().member("name", t.name).member("type", traits(t.view.dtype).name).key("shape").begin_array();
    for (int i = 0; i < t.view.shape.rank(); ++i) w.value(t.view.shape[i]);
    w.end_array().member("bytes", t.view.bytes()).end_object();
  }
  w.end_array();
}

std::string as_json(const Checkpoint& checkpoint) {
  const ModelConfig& c = checkpoint.config();
  const Totals sum = totals(checkpoint);
  std::string out;
  JsonWriter w(out);
  w.begin_object().member("name", c.name).member("architecture", to_string(c.architecture)).member("layers", c.layers);
  w.member("hidden", c.hidden).member("ffn", c.ffn).member("vocab", c.vocab).member("context", c.context);
  w.member("heads", c.heads).member("kv_heads", c.kv_heads).member("head_dim", c.head_dim);
  if (c.moe) w.member("experts", c.moe->experts).member("experts_per_token", c.moe->experts_per_token);
  w.member("parameters", sum.parameters).member("weight_bytes", sum.bytes).key("weight_bytes_by_type").begin_object();
  for (const auto& [type, bytes] : sum.bytes_by_type) w.member(type, bytes);
  w.end_object().member("kv_bytes_per_token_f16", kv_bytes_per_token(c, DType::f16));
  w.member("fingerprint", checkpoint.fingerprint());
  if (checkpoint.gguf() != nullptr) {
    w.key("metadata").begin_object();
    for (const auto& [key, value] : checkpoint.gguf()->metadata()) w.member(key, value_text(value));
    w.end_object();
  }
  write_tensors(w, checkpoint);
  w.end_object();
  return out + "\n";
}

}  // namespace

Command inspect_command() {
  auto options = std::make_shared<InspectOptions>();
  return {
      .name = "inspect",
      .summary = "what a model's files hold",
      .details = "Opens and checks a model without loading it: sizes, types, memory, and on request every tensor.",
      .examples =
          "  homeport inspect model.gguf\n  homeport inspect model.gguf --tensors --metadata\n"
          "  homeport inspect folder-with-safetensors --json",
      .declare =
          [options](Arguments& a) {
            a.positional("model", options->path, "A .gguf file, or a folder with config.json and *.safetensors.", true);
            a.toggle("--tensors", options->tensors, "List every tensor.");
            a.toggle("--metadata", options->metadata, "List a GGUF file's metadata.");
            a.toggle("--json", options->json, "Print JSON with everything.");
          },
      .run = [options](const Invocation&) -> Result<int> {
        HP_TRY(const Checkpoint checkpoint, Checkpoint::open(options->path));
        std::fputs((options->json ? as_json(checkpoint) : as_text(checkpoint, *options)).c_str(), stdout);
        return kExitOk;
      },
  };
}

}  // namespace hp::cli
