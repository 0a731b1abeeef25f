#include "gateway/metrics_page.h"

#include <gtest/gtest.h>

#include <array>

namespace hp::gateway {
namespace {

TEST(MetricsPage, NodesGetALabelAndFamiliesStayTogether) {
  const std::string own =
      "# HELP http_total Requests\n# TYPE http_total counter\nhttp_total{class=\"2xx\"} 3\n# HELP up Up\n# TYPE up "
      "gauge\nup 1\n";
  const std::array<std::pair<std::string, std::string>, 2> nodes{
      {{"node0",
        "# HELP http_total Requests\n# TYPE http_total counter\nhttp_total{class=\"2xx\"} 5\n# HELP vllm:x X\n# TYPE "
        "vllm:x histogram\nvllm:x_bucket{le=\"1\"} 2\nvllm:x_count 2\n"},
       {"node1", "# HELP vllm:x X\n# TYPE vllm:x histogram\nvllm:x_bucket{le=\"1\"} 7\nvllm:x_count 9\n"}}};
  EXPECT_EQ(
      merge_metrics(own, nodes),
      "# HELP http_total Requests\n# TYPE http_total counter\nhttp_total{class=\"2xx\"} 3\n"
      "http_total{node=\"node0\",class=\"2xx\"} 5\n# HELP up Up\n# TYPE up gauge\nup 1\n# HELP vllm:x X\n# TYPE vllm:x "
      "histogram\nvllm:x_bucket{node=\"node0\",le=\"1\"} 2\nvllm:x_count{node=\"node0\"} 2\n"
      "vllm:x_bucket{node=\"node1\",le=\"1\"} 7\nvllm:x_count{node=\"node1\"} 9\n");
  EXPECT_EQ(merge_metrics(own, {}), own);
}

}  // namespace
}  // namespace hp::gateway
