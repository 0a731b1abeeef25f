// The door beside the API, and the journey that a stream tells.
#include "gateway/side_door.h"

#include "gateway/gateway.h"
#include "gateway/test_gateway.h"

namespace hp::gateway {
namespace {

TEST_F(GatewayTest, AStreamsJourneySaysWhichNodeMadeWhichTokens) {
  for (int i = 0; i < 2; ++i) add_node({.token_pace = 15ms});
  const auto gateway = start_gateway();
  const Seen seen = run(gateway->port(), chat_body(40), [&](std::size_t count, Seen&) {
    if (count == 10)
      for (auto& node : nodes_) node->fault("cut", 0ms);
  });
  expect_whole(seen, 40);
  const auto state = gateway->stream(seen.stream);
  ASSERT_TRUE(state);
  ASSERT_EQ(state->legs.size(), 2U);
  EXPECT_NE(state->legs[0].node, state->legs[1].node);
  EXPECT_EQ(state->legs[0].from_token, 0U);
  EXPECT_EQ(state->legs[1].from_token, state->legs[0].tokens) << "without a gap and without an overlap";
  EXPECT_EQ(state->legs[0].tokens + state->legs[1].tokens, fake_reply(prompt_text(), 7, 0, 40).tokens);
  EXPECT_GE(state->legs[1].at_ms, state->legs[0].at_ms);
  EXPECT_EQ(gateway->streams(10).size(), 1U);
  EXPECT_FALSE(gateway->stream("0123"));
}

TEST_F(GatewayTest, TheSideDoorGetsOnlyWhatIsNotTheApisAndMayAskInside) {
  add_node();
  GatewayOptions options;
  options.tenants = {{.name = "acme", .key_sha256 = {std::string(64, '0')}}};
  const auto gateway = start_gateway(options);
  std::atomic<int> asked = 0;
  gateway->open_side_door(
      [&](net::HttpRequest& request, std::shared_ptr<net::ResponseWriter>& writer, const InsideRequest& inside) {
        ++asked;
        if (request.path != "/beside") return false;
        inside({.method = "POST",
                .target = "/v1/chat/completions",
                .path = "/v1/chat/completions",
                .headers = {{"authorization", "Bearer whatever the browser sent"}},
                .body = R"({"model":"fake","messages":[{"role":"user","content":"x"}],"seed":3})"},
               writer);
        return true;
      });
  const auto get = [&](std::string target, net::Headers headers = {}) {
    return client_->fetch({.port = gateway->port(), .target = std::move(target), .headers = std::move(headers)});
  };
  const auto inside = get("/beside");
  ASSERT_TRUE(inside);
  EXPECT_EQ(inside->status, 200) << inside->body;
  EXPECT_NE(inside->body.find("chat.completion"), std::string::npos);
  EXPECT_EQ(get("/health")->status, 200);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(get("/v1/models")->status, 401) << "the API still wants a key";
  EXPECT_EQ(get("/v1/models", {{"Authorization", "Inside "}})->status, 401);
  EXPECT_EQ(get("/v1/models", {{"Authorization", "Inside " + std::string(64, '0')}})->status, 401);
  EXPECT_EQ(asked, 2);
}

}  // namespace
}  // namespace hp::gateway
