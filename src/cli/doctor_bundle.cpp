#include "cli/doctor_bundle.h"

#include <unistd.h>

#include <algorithm>

#include "base/black_box.h"
#include "base/json.h"
#include "hub/url.h"
#include "ops/bundle/bundle.h"
#include "ops/bundle/redact.h"
#include "ops/collect/nvml.h"

namespace hp::cli {
namespace {

std::string gpu_text() {
  const auto library = ops::Nvml::load("libnvidia-ml.so.1");
  if (!library) return library.error().message + "\n";
  std::string out;
  const auto figure = [](const ops::Figure& v) { return v ? fmt::format("{:g}", *v) : std::string("-"); };
  for (const ops::GpuView& g : (*library)->read())
    out += fmt::format(
        "GPU {} {} {}: {} C, memory {} of {} bytes, {} W of {}, {} MHz, load {}, ECC errors {}, XID errors {}, "
        "throttled "
        "by: {}\n",
        g.index, g.name, g.uuid, figure(g.temperature_c), figure(g.memory_used_bytes), figure(g.memory_total_bytes),
        figure(g.power_w), figure(g.power_limit_w), figure(g.clock_mhz), figure(g.utilization), figure(g.ecc_errors),
        figure(g.xid_errors), g.throttle_reasons);
  return out;
}

}  // namespace

Result<std::string> doctor_bundle(const Config& config, const std::string& file, const std::string& url,
                                  const std::string& machine) {
  ops::BundleInput input{.file = file, .secrets = ops::secrets_of(config)};
  input.processes = black_box::processes();
  std::erase(input.processes, ::getpid());
  input.texts = {{"doctor.json", [&machine] { return machine; }},
                 {"config.txt", [&config] { return ops::redacted_config(config); }},
                 {"gpus.txt", gpu_text}};
  if (!url.empty()) {
    HP_TRY(const hub::Url address, hub::Url::parse(url));
    for (const std::string_view page : {"metrics", "health", "ready", "v1/models"}) {
      net::ClientRequest request{.host = address.host, .port = address.port, .tls = address.tls};
      request.target = fmt::format("/{}", page);
      input.pages.push_back({fmt::format("server/{}.txt", page.substr(page.rfind('/') + 1)), std::move(request)});
    }
  }
  HP_TRY(const ops::BundleReport report, ops::write_bundle(input));
  std::string out =
      fmt::format("{}: {} KiB, {} files of {} processes, {:.1f} s\n", report.file.string(),
                  (report.bytes + 1023) / 1024, report.files.size(), input.processes.size(), report.seconds);
  for (const std::string& line : report.left_out) out += fmt::format("  left out: {}\n", line);
  return out;
}

}  // namespace hp::cli
