// `doctor`: what this machine is, what would run on it, and what is missing.
#include <cstdio>
#include <memory>

#include "base/cpu_count.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/doctor_bundle.h"
#include "cli/doctor_hardware.h"
#include "cli/machine.h"

namespace hp::cli {
namespace {

constexpr std::size_t kMinOpenFiles = 4096;
constexpr double kKvShare = 0.15;  // of the memory, left for KV and buffers

struct Finding {
  bool fatal = false;
  std::string what;
};

std::vector<Finding> findings(const Machine& m) {
  std::vector<Finding> out;
  if (m.isas.size() <= 1)
    out.push_back({false, "this CPU has neither AVX2 nor AVX-512: only the slow reference kernels run"});
  if (m.usable_bytes() == 0)
    out.push_back({true, "less than 512 MiB of memory is free: close other programs, or raise the container's limit"});
  if (m.open_files < kMinOpenFiles)
    out.push_back({false, fmt::format("the limit on open files is {}; for many clients raise it: ulimit -n {}",
                                      m.open_files, kMinOpenFiles * 4)});
  if (m.cpu_quota > 0.0 && m.cpu_quota < static_cast<double>(m.cpus))
    out.push_back({false, fmt::format("the container may use {:.1f} of {} CPUs: models run with {} threads",
                                      m.cpu_quota, m.cpus, usable_cpus())});
  if (m.model.empty())
    out.push_back({false, fmt::format("no model in {}: scripts/model.sh fetches a small one, or give --model FILE",
                                      m.models_folder.string())});
  if (!m.gpus.empty() && m.gpu_plugin.empty())
    out.push_back({false, "there is a GPU but no libhomeport_cuda.so beside the program: build it with `make cuda`"});
  return out;
}

/// Billions of parameters whose weights fit, at `bits` per weight with the formats' own scales.
double billions(const Machine& m, double bits) {
  return static_cast<double>(m.usable_bytes()) * (1.0 - kKvShare) * 8.0 / bits / 1e9;
}

std::string as_json(const Machine& m, const std::vector<Finding>& found) {
  std::string out;
  JsonWriter w(out);
  w.begin_object().member("system", m.system).member("kernel", m.kernel).member("cpu", m.cpu).member("cpus", m.cpus);
  w.member("cpu_quota", m.cpu_quota).key("isas").begin_array();
  for (const std::string& isa : m.isas) w.value(isa);
  w.end_array().member("memory_bytes", m.memory_bytes).member("memory_free_bytes", m.memory_free_bytes);
  w.member("memory_limit_bytes", m.memory_limit_bytes).member("usable_bytes", m.usable_bytes());
  w.member("models_folder", m.models_folder.string()).member("disk_free_bytes", m.disk_free_bytes);
  w.member("open_files", m.open_files).key("gpus").begin_array();
  for (const Gpu& gpu : m.gpus) w.begin_object().member("name", gpu.name).member("device", gpu.device).end_object();
  w.end_array().member("gpu_plugin", m.gpu_plugin).member("default_model", m.model);
  w.key("parameters_that_fit").begin_object();
  w.member("q4", billions(m, 4.5) * 1e9).member("q8", billions(m, 8.5) * 1e9).member("bf16", billions(m, 16) * 1e9);
  w.end_object().key("findings").begin_array();
  for (const Finding& f : found) w.begin_object().member("fatal", f.fatal).member("what", f.what).end_object();
  w.end_array().end_object();
  return out + "\n";
}

std::string as_text(const Machine& m, const std::vector<Finding>& found) {
  std::string isas;
  for (const std::string& isa : m.isas) isas += (isas.empty() ? "" : " ") + isa;
  std::string out =
      fmt::format("System   {}, {}\nCPU      {}, {} CPUs; kernels: {}\n", m.system, m.kernel, m.cpu, m.cpus, isas);
  out += fmt::format("Memory   {} of {} free{}\n", bytes_text(m.memory_free_bytes), bytes_text(m.memory_bytes),
                     m.memory_limit_bytes > 0 ? fmt::format(", limited to {}", bytes_text(m.memory_limit_bytes)) : "");
  out += fmt::format("Disk     {} free in {}\n", bytes_text(m.disk_free_bytes), m.models_folder.string());
  if (m.gpus.empty()) out += "GPU      none\n";
  for (const Gpu& gpu : m.gpus) out += fmt::format("GPU      {} at {}\n", gpu.name, gpu.device);
  out += fmt::format("Model    {}\n", m.model.empty() ? "none yet" : m.model);
  out += fmt::format("\nFits in memory: about {:.1f} billion parameters at 4 bits, {:.1f} at 8 bits, {:.1f} in bf16.\n",
                     billions(m, 4.5), billions(m, 8.5), billions(m, 16.0));
  if (found.empty()) return out + "Nothing is missing.\n";
  out += "\nMissing or worth a change:\n";
  for (const Finding& f : found) out += fmt::format("  - {}\n", f.what);
  return out;
}

}  // namespace

Command doctor_command() {
  struct Flags {
    bool json = false, hardware = false;
    std::string bundle, url;
  };
  auto flags = std::make_shared<Flags>();
  return {
      .name = "doctor",
      .summary = "what this machine is, what would run, what is missing; a diagnostics bundle",
      .details =
          "Looks at this machine and says what it can serve. Ends with 1 when nothing can run. With --bundle it "
          "writes one file with everything that helps to understand a trouble afterwards: configuration, last "
          "log lines and stacks of every homeport process here, also of hung and stopped ones, figures, GPUs. "
          "Secrets are taken out.",
      .examples =
          "  homeport doctor\n  homeport doctor --json\n  homeport doctor --hardware\n"
          "  homeport doctor --bundle trouble.tar.zst --url http://127.0.0.1:8000",
      .sections = {"ops", "machine"},
      .declare =
          [flags](Arguments& a) {
            a.toggle("--json", flags->json, "Print JSON.");
            a.toggle("--hardware", flags->hardware, "Print what the watch reads of this machine and its GPUs now.");
            a.text("--bundle", flags->bundle, "Write a diagnostics bundle.", "FILE.tar.zst");
            a.text("--url", flags->url, "Server whose pages go into the bundle.", "URL");
          },
      .run = [flags](const Invocation& in) -> Result<int> {
        if (flags->hardware) {
          std::fputs(doctor_hardware(in.config, flags->json).c_str(), stdout);
          return kExitOk;
        }
        const Machine machine = look_at_machine();
        const std::vector<Finding> found = findings(machine);
        if (!flags->bundle.empty()) {
          HP_TRY(const std::string said, doctor_bundle(in.config, flags->bundle, flags->url, as_json(machine, found)));
          std::fputs(said.c_str(), stdout);
          return kExitOk;
        }
        std::fputs((flags->json ? as_json(machine, found) : as_text(machine, found)).c_str(), stdout);
        for (const Finding& f : found)
          if (f.fatal) return kExitFailure;
        return kExitOk;
      },
  };
}

}  // namespace hp::cli
