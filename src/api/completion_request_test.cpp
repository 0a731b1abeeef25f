#include "api/completion_request.h"

#include <gtest/gtest.h>

namespace hp::api {
namespace {

TEST(CompletionRequest, ReadsEveryFormOfPrompt) {
  const struct {
    const char* prompt;
    std::vector<Prompt> want;
  } cases[] = {
      {R"("a")", {Prompt("a")}},
      {R"(["a","b"])", {Prompt("a"), Prompt("b")}},
      {R"([1,2])", {Prompt(std::vector<std::int32_t>{1, 2})}},
      {R"([[1],[2,3]])", {Prompt(std::vector<std::int32_t>{1}), Prompt(std::vector<std::int32_t>{2, 3})}},
  };
  for (const auto& c : cases) {
    const auto r = parse_completion_request(std::string(R"({"model":"m","prompt":)") + c.prompt + "}");
    ASSERT_TRUE(r) << c.prompt << ": " << r.error().message;
    EXPECT_EQ(r->prompts, c.want) << c.prompt;
    EXPECT_FALSE(r->logprobs);
  }
}

TEST(CompletionRequest, WrongValuesNameTheirParameter) {
  const struct {
    const char *fields, *param;
  } cases[] = {
      {R"("n":1)", "prompt"},
      {R"("prompt":[])", "prompt"},
      {R"("prompt":[[]])", "prompt"},
      {R"("prompt":[1,"a"])", "prompt"},
      {R"("prompt":[-1])", "prompt"},
      {R"("prompt":[4294967296])", "prompt"},
      {R"("prompt":{})", "prompt"},
      {R"("prompt":"a","logprobs":true)", "logprobs"},
      {R"("prompt":"a","logprobs":21)", "logprobs"},
      {R"("prompt":"a","echo":true)", "echo"},
      {R"("prompt":"a","suffix":3)", "suffix"},
      {R"("prompt":[1,2],"suffix":"b")", "suffix"},
      {R"("prompt":"a","best_of":2)", "best_of"},
      {R"("prompt":"a","temperature":3)", "temperature"},
  };
  for (const auto& c : cases) {
    const auto r = parse_completion_request(std::string(R"({"model":"m",)") + c.fields + "}");
    ASSERT_FALSE(r) << c.fields;
    EXPECT_EQ(r.error().where, c.param) << c.fields << ": " << r.error().message;
  }
}

TEST(CompletionRequest, ReadsTheSuffixToFillInBefore) {
  const auto r = parse_completion_request(R"({"model":"m","prompt":"a","suffix":"b"})");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->suffix, "b");
  EXPECT_FALSE(parse_completion_request(R"({"model":"m","prompt":"a","suffix":""})")->suffix);
}

TEST(CompletionRequest, LogprobsZeroIsNotAbsent) {
  const auto r = parse_completion_request(R"({"model":"m","prompt":"a","logprobs":0,"best_of":2,"n":2})");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->logprobs, 0);
}

}  // namespace
}  // namespace hp::api
