// Readers of /proc and of pages, with what real machines and exporters write and with what nobody should.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "ops/collect/cluster_track.h"
#include "ops/collect/host.h"
#include "ops/collect/page.h"
#include "ops/collect/prom_text.h"

namespace hp::ops {
namespace {

double ticks() {
  return static_cast<double>(::sysconf(_SC_CLK_TCK));
}

TEST(ProcStat, BusyAndTotal) {
  HostReading r;
  parse_proc_stat("cpu  100 20 30 400 50 6 7 8 90 10\ncpu0 1 2 3 4\nbtime 1700000000\n", r);
  EXPECT_DOUBLE_EQ(r.cpu_total * ticks(), 621) << "guest time is in user time already";
  EXPECT_DOUBLE_EQ(r.cpu_busy * ticks(), 171) << "waiting for a disk is not busy";
  EXPECT_EQ(boot_time("cpu 1\nbtime 1700000000\n"), 1'700'000'000);
  EXPECT_EQ(boot_time("no such line"), std::nullopt);
}

TEST(ProcStat, OddInputsLeaveWhatWasKnown) {
  for (const std::string_view text :
       {"", "\n", "cpu", "cpu 1 2", "cpu0 1 2 3 4 5", "garbage\0more", "intr 1 2 3 4 5 6"}) {
    HostReading r{.cpu_busy = 1, .cpu_total = 2};
    parse_proc_stat(text, r);
    EXPECT_EQ(r.cpu_total, 2) << text;
  }
  HostReading old;
  parse_proc_stat("cpu 1 2 3 4", old);  // before Linux 2.6
  EXPECT_DOUBLE_EQ(old.cpu_total * ticks(), 10);
  HostReading words;
  parse_proc_stat("cpu a b c d e", words);
  EXPECT_EQ(words.cpu_total, 0);
}

TEST(Meminfo, AvailableNotFree) {
  HostReading r;
  parse_meminfo("MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:\t8192 kB\nHugePages_Total:       0\n\nOdd\n",
                r);
  EXPECT_EQ(r.memory_total, 16'384 * 1024);
  EXPECT_EQ(r.memory_available, 8'192 * 1024);
}

TEST(NetDev, EverythingButLoopback) {
  const std::string_view head = "Inter-|   Receive  |  Transmit\n face |bytes packets errs|bytes packets\n";
  HostReading r;
  parse_net_dev(std::string(head) + "    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n" +
                    "  eth0:1000 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n" +  // no blank after the colon: long numbers
                    "eth0.5: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n wlan0: 1 2\n: 1 2 3 4 5 6 7 8 9\n",
                r);
  EXPECT_EQ(r.receive_bytes, 1'005);
  EXPECT_EQ(r.send_bytes, 207);
  parse_net_dev("", r);
  EXPECT_EQ(r.receive_bytes, 0);
}

TEST(SelfStat, ANameMayHoldAnything) {
  const std::string rest = " S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 1000 20 3 22 23 24";
  for (const std::string_view name : {"homeport", "a b", "x) S 9 9 9", "((", ")"}) {
    HostReading r;
    parse_self_stat(fmt::format("42 ({}){}", name, rest), 5'000, r);
    EXPECT_DOUBLE_EQ(r.process_cpu_seconds * ticks(), 300) << name;
    EXPECT_DOUBLE_EQ(r.process_start_seconds, 5'000 + 1'000 / ticks()) << name;
    EXPECT_EQ(r.process_resident_bytes, 3.0 * static_cast<double>(::sysconf(_SC_PAGESIZE))) << name;
  }
  HostReading none;
  for (const std::string_view text : {"", "42", "42 (x", "42 (x) S 1 2 3"}) parse_self_stat(text, 0, none);
  EXPECT_EQ(none.process_cpu_seconds, 0);
}

TEST(Host, ARecordedFolderAndOneThatIsNotThere) {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("hp-proc-{}", ::getpid());
  std::filesystem::create_directories(folder / "net");
  std::ofstream(folder / "stat") << "cpu 1 1 1 1 1 1 1 1\nbtime 10\n";
  std::ofstream(folder / "meminfo") << "MemTotal: 2 kB\nMemAvailable: 1 kB\n";
  const HostReading r = read_host(folder.string(), "/");
  EXPECT_EQ(r.memory_total, 2'048);
  EXPECT_GT(r.disk_total, 0);
  EXPECT_LE(r.disk_free, r.disk_total);
  std::filesystem::remove_all(folder);
  const HostReading none = read_host(folder.string(), folder.string());
  EXPECT_EQ(none.memory_total, 0);
  EXPECT_EQ(none.disk_total, 0);
  EXPECT_GT(read_host("/proc", "/").process_resident_bytes, 0) << "and this machine";
}

TEST(PromText, WhatTheFormatAllows) {
  std::vector<std::pair<std::string, double>> got;
  const std::size_t strange = parse_prom_text(
      "# HELP a b\n  a 1\na{} 2\na{x=\"}\\\"{\",y = \"\\\\\" , } 3 1700000000\nb +Inf\r\nb -Inf\nc NaN\nd 1e-3\n"
      "no_value\n{x=\"1\"} 4\na{x=\"open 5\ne 1x\nf{x=1} 6 7\n",
      [&](const PromSample& s) { got.emplace_back(std::string(s.name) + std::string(s.labels), s.value); });
  ASSERT_EQ(got.size(), 8u);
  EXPECT_EQ(got[2].second, 3);
  EXPECT_EQ(got[3].second, std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(got[5].second));
  EXPECT_EQ(got[6].second, 1e-3);
  EXPECT_EQ(strange, 4u);
  EXPECT_EQ(prom_label("x=\"}\\\"{\",y = \"\\\\\" , ", "x"), "}\"{");
  EXPECT_EQ(prom_label("x=\"a\\nb\",y=\"\\\\\"", "x"), "a\nb");
  EXPECT_EQ(prom_label("x=\"a\",y=\"\\\\\"", "y"), "\\");
  EXPECT_EQ(prom_label("x=\"a\"", "z"), std::nullopt);
}

// As dcgm-exporter 3.3 writes it: mebibytes, no total, labels of its own.
constexpr std::string_view kDcgm = R"(# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-604ac76c",pci_bus_id="00000000:01:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="ip-1"} 1980
DCGM_FI_DEV_MEM_CLOCK{gpu="0",UUID="GPU-604ac76c",modelName="NVIDIA H100 80GB HBM3"} 2619
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-604ac76c",modelName="NVIDIA H100 80GB HBM3"} 61
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-604ac76c"} 512.25
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-604ac76c"} 87
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-604ac76c"} 7000
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-604ac76c"} 74000
DCGM_FI_DEV_FB_RESERVED{gpu="0",UUID="GPU-604ac76c"} 559
DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-7",modelName="NVIDIA H100 80GB HBM3"} 40
DCGM_EXP_XID_ERRORS_COUNT{gpu="1",UUID="GPU-7",window_size_in_ms="300000",xid="79"} 2
DCGM_FI_DEV_ECC_SBE_VOL_TOTAL{gpu="0"} 5
)";

TEST(Page, OfADcgmExporter) {
  const Page page = read_page(kDcgm);
  ASSERT_EQ(page.gpus.size(), 2u);
  const GpuView& gpu = page.gpus[0];
  EXPECT_EQ(gpu.name, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(gpu.uuid, "GPU-604ac76c");
  EXPECT_EQ(gpu.temperature_c, 61);
  EXPECT_EQ(gpu.power_w, 512.25);
  EXPECT_EQ(gpu.utilization, 0.87);
  EXPECT_EQ(gpu.clock_mhz, 1'980);
  EXPECT_EQ(gpu.memory_used_bytes, 74'000.0 * 1048576);
  EXPECT_EQ(gpu.memory_total_bytes, 81'559.0 * 1048576);
  EXPECT_EQ(page.gpus[1].temperature_c, 40);
  EXPECT_EQ(page.gpus[1].xid_errors, 2);
  EXPECT_EQ(page.gpus[1].power_w, std::nullopt) << "what is not told is not known";
  EXPECT_EQ(page.strange_lines, 0u);
}

TEST(Page, AnExportersGpusCountForTheNodeAndOwnFiguresComeFirst) {
  ClusterTrack track(*load_rules());
  track.node("n").gpus(read_page(kDcgm).gpus);
  track.node("n").page(1'000, 1'000, read_page("vllm:num_requests_running 0\n"));
  KnownNode known;
  known.name = "n";
  known.condition = NodeCondition::ready;
  track.round({1'000, 1'000}, {known});
  const auto value = [&](std::string_view signal, std::string_view instance) {
    for (const SignalSample& s : track.signals({1'000, 1'000}))
      if (s.signal == signal && s.instance == instance) return s.value;
    return -1.0;
  };
  EXPECT_EQ(value("gpu_temperature_celsius", "n/gpu0"), 61);
  EXPECT_NEAR(value("gpu_memory_used_ratio", "n/gpu0"), 74'000.0 / 81'559, 1e-9);
  EXPECT_EQ(value("gpu_memory_used_ratio", "n/gpu1"), -1) << "without a total there is no ratio";
  track.node("n").page(2'000, 2'000, read_page("homeport_gpu_temperature_celsius{gpu=\"0\"} 70\n"));
  EXPECT_EQ(value("gpu_temperature_celsius", "n/gpu0"), 70);
}

TEST(Page, HistogramsTenantsAndNames) {
  const Page page = read_page(
      "homeport_build_info{device=\"CPU\",weights=\"q4\"} 1\nvllm:num_requests_running{model_name=\"a\\\"b\"} 2\n"
      "homeport_tenant_requests_total{tenant=\"acme\"} 3\nhomeport_gateway_limited_total{tenant=\"acme\",limit=\"x\"} "
      "1\n"
      "homeport_gateway_limited_total{tenant=\"acme\",limit=\"y\"} 1\n"
      "vllm:time_to_first_token_seconds_bucket{le=\"+Inf\"} 9\nvllm:time_to_first_token_seconds_bucket{le=\"0.5\"} 4\n"
      "vllm:time_to_first_token_seconds_bucket{le=\"0.1\"} 1\nvllm:time_to_first_token_seconds_bucket{le=\"x\"} 1\n"
      "vllm:inter_token_latency_seconds_bucket{le=\"0.1\"} 7\nunrelated_seconds_bucket{le=\"+Inf\"} 7\n");
  EXPECT_EQ(page.device, "CPU");
  EXPECT_EQ(page.weights, "q4");
  EXPECT_EQ(page.model, "a\"b");
  EXPECT_EQ(page.tenants.at("acme").limited, 2);
  ASSERT_EQ(page.histograms.size(), 1u) << "one without +Inf is torn";
  const PageHistogram& h = page.histograms.begin()->second;
  EXPECT_EQ(h.bounds, (std::vector<double>{0.1, 0.5}));
  EXPECT_EQ(h.cumulative, (std::vector<double>{1, 4, 9}));
}

TEST(CounterWindow, ARestartCountsFromZeroAndNothingIsKnownBeforeTwoReadings) {
  CounterWindow w;
  EXPECT_EQ(w.increase(1'000), std::nullopt);
  w.add(0, 100);
  EXPECT_EQ(w.increase(1'000), std::nullopt);
  w.add(1'000, 110);
  w.add(2'000, 4);
  w.add(3'000, NAN);
  w.add(2'500, 1'000);  // 2,500 is later: a jump
  EXPECT_EQ(w.increase(10'000), 10 + 4 + 996);
  w.add(2'400, 5'000);  // out of order: left out
  EXPECT_EQ(w.increase(10'000), 1'010);
}

TEST(CounterWindow, RecallsWhatWasBeforeItsFirstReading) {
  constexpr std::int64_t kHour = 3'600'000;
  CounterWindow w;
  const std::vector<Growth> past{{-50 * kHour, -49 * kHour, 1'000},
                                 {-2 * kHour, -kHour, 200},
                                 {-60'000, 0, 30},
                                 {-1'000, 600'000, 7}};  // reaches into what this process has counted
  w.recall(past);
  EXPECT_EQ(w.increase(kHour), std::nullopt) << "before the first reading there is nothing to begin from";
  w.add(1'000, 500);
  w.add(2'000, 505);
  w.recall(past);
  EXPECT_EQ(w.increase(1'000), 5);
  EXPECT_EQ(w.increase(120'000), 35);
  EXPECT_EQ(w.increase(3 * kHour), 235);
  EXPECT_EQ(w.increase(72 * kHour), 1'235);
  for (std::int64_t t = 3; t < 8'000; ++t) w.add(t * 1'000, 505);
  EXPECT_EQ(w.increase(72 * kHour), 1'235) << "two hours on";
  EXPECT_EQ(w.increase(kHour), 0);
}

}  // namespace
}  // namespace hp::ops
