"""The official client against a running server, all through its typed objects."""
import openai
import pytest
from openai import OpenAI

ASK = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def client(server):
    return OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0, timeout=120)


def test_models(client):
    names = [m.id for m in client.models.list()]
    assert names[0] == "SmolLM2-135M-Instruct.Q4_1" and "default" in names


def test_chat(client):
    answer = client.chat.completions.create(model="default", messages=ASK, temperature=0, max_tokens=30)
    assert answer.choices[0].message.role == "assistant"
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.choices[0].message.tool_calls is None


def test_stream_is_the_same_text(client):
    whole = client.chat.completions.create(model="default", messages=ASK, temperature=0, max_tokens=30)
    chunks = list(client.chat.completions.create(model="default", messages=ASK, temperature=0, max_tokens=30, stream=True,
                                                 stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert len({c.id for c in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens and not chunks[-1].choices


def test_a_second_ask_reuses_the_prompt(client):
    long = [{"role": "user", "content": "Count these words. " * 20}]
    client.chat.completions.create(model="default", messages=long, temperature=0, max_tokens=2)
    again = client.chat.completions.create(model="default", messages=long, temperature=0, max_tokens=2)
    assert again.usage.prompt_tokens_details.cached_tokens >= 32


def test_logprobs(client):
    answer = client.chat.completions.create(model="default", messages=ASK, temperature=0, max_tokens=5, logprobs=True,
                                            top_logprobs=3)
    items = answer.choices[0].logprobs.content
    assert len(items) == answer.usage.completion_tokens
    for item in items:
        assert len(item.top_logprobs) == 3 and item.logprob <= 0
        assert item.token == item.top_logprobs[0].token, "greedy takes the likeliest"
        assert bytes(item.bytes).decode() == item.token
    assert "".join(i.token for i in items).startswith(answer.choices[0].message.content[:5])


def test_n_and_seed(client):
    def ask(seed):
        return client.chat.completions.create(model="default", messages=ASK, temperature=1.2, max_tokens=16, n=3, seed=seed)

    first, again, other = ask(7), ask(7), ask(8)
    texts = lambda a: [c.message.content for c in a.choices]
    assert [c.index for c in first.choices] == [0, 1, 2]
    assert texts(first) == texts(again) and texts(first) != texts(other)
    assert len(set(texts(first))) > 1, "choices are independent samples"
    assert first.system_fingerprint == again.system_fingerprint


def test_stop(client):
    whole = client.chat.completions.create(model="default", messages=ASK, temperature=0, max_tokens=30)
    text = whole.choices[0].message.content
    cut = client.chat.completions.create(model="default", messages=ASK, temperature=0, max_tokens=30, stop=["Paris"])
    assert cut.choices[0].message.content == text[:text.index("Paris")]
    assert cut.choices[0].finish_reason == "stop"


def test_length(client):
    answer = client.chat.completions.create(model="default", messages=ASK, temperature=0, max_completion_tokens=2)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 2


def test_completions(client):
    answer = client.completions.create(model="default", prompt="The capital of France is", temperature=0, max_tokens=6)
    assert "Paris" in answer.choices[0].text
    streamed = client.completions.create(model="default", prompt="The capital of France is", temperature=0, max_tokens=6,
                                         stream=True)
    assert "".join(c.choices[0].text for c in streamed) == answer.choices[0].text
    two = client.completions.create(model="default", prompt=["One, two,", "Red, green,"], temperature=0, max_tokens=3)
    assert [c.index for c in two.choices] == [0, 1]


def test_tools_are_taken_and_may_stay_unused(client):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    try:
        answer = client.chat.completions.create(model="default", messages=ASK, tools=tools, temperature=0, max_tokens=20)
        assert answer.choices[0].finish_reason in ("stop", "length", "tool_calls")
    except openai.BadRequestError as e:  # a family that was never taught tools says so
        assert e.body["param"] in ("tools", "tool_choice")


@pytest.mark.parametrize("members, param", [
    ({"temperature": -1}, "temperature"), ({"top_p": 5}, "top_p"), ({"max_tokens": 0}, "max_tokens"),
    ({"n": 0}, "n"), ({"messages": []}, "messages"), ({"stop": [""]}, "stop"), ({"presence_penalty": 9}, "presence_penalty"),
])
def test_errors_name_the_parameter(client, members, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "default", "messages": ASK, **members})
    assert caught.value.body["param"] == param
    assert caught.value.body["type"] == "invalid_request_error" and caught.value.body["message"]


def test_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4", messages=ASK)
    assert "gpt-4" in caught.value.body["message"]
