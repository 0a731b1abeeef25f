#include "net/trace_context.h"

#include <gtest/gtest.h>

namespace hp::net {
namespace {

constexpr std::string_view kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";

TraceContext of(std::vector<std::pair<std::string, std::string>> headers) {
  HttpRequest request;
  request.headers = std::move(headers);
  return trace_of(request, 0xabc, 0xdef);
}

TEST(TraceContext, AValidParentIsTakenOver) {
  const TraceContext trace = of({{"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"},
                                 {"tracestate", "a=1"},
                                 {"tracestate", "b=2"}});
  EXPECT_EQ(trace.trace_id, kTrace);
  EXPECT_EQ(trace.state, "a=1,b=2");
  EXPECT_EQ(trace.parent(0x1234), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000001234-00") << "not sampled stays so";
  EXPECT_EQ(of({{"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"}}).flags, "01");
  EXPECT_EQ(of({{"traceparent", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"}}).trace_id, kTrace)
      << "a later version is read as far as it is known";
}

TEST(TraceContext, AnInvalidParentBeginsANewTraceWithoutState) {
  for (const char* header : {"", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
                             "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                             "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                             "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                             "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                             "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
                             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
                             "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                             "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x"}) {
    const TraceContext trace = of({{"traceparent", header}, {"tracestate", "a=1"}});
    EXPECT_EQ(trace.trace_id, "0000000000000abc0000000000000def") << header;
    EXPECT_EQ(trace.state, "") << header;
    EXPECT_EQ(trace.flags, "01") << header;
  }
  const std::string good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  EXPECT_NE(of({{"traceparent", good}, {"traceparent", good}}).trace_id, kTrace) << "two are none";
  EXPECT_EQ(of({{"traceparent", good}, {"tracestate", "a=" + std::string(600, 'x')}}).state, "") << "too long";
}

}  // namespace
}  // namespace hp::net
