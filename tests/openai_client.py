"""Speaks to `nudge serve` as anybody does who has OpenAI's Python package.

    openai_client.py NUDGE CONFIGURATION [KEY]

Starts the server and stops it. Ends with 0 if all is as that package promises its users.
"""

import re
import signal
import subprocess
import sys
import tempfile
import time

import openai

START_SECONDS = 120
STOP_SECONDS = 60

nudge, configuration = sys.argv[1:3]
key = sys.argv[3] if len(sys.argv) > 3 else "none"
said = tempfile.NamedTemporaryFile("w+", prefix="nudge-", suffix=".said")
server = subprocess.Popen([nudge, "serve", configuration], stdout=said, stderr=said)


def fail(why):
    server.kill()
    with open(said.name) as lines:
        sys.exit(f"openai_client: {why}\n{lines.read()}")


def expect(what, why):
    if not what:
        fail(why)


def url():
    for _ in range(START_SECONDS * 20):
        with open(said.name) as lines:
            found = re.search(r"serving at (http://\S+?);", lines.read())
        if found:
            return found[1] + "/v1"
        expect(server.poll() is None, "the server ended")
        time.sleep(0.05)
    fail("the server does not start")


base_url = url()
client = openai.OpenAI(base_url=base_url, api_key=key, timeout=120, max_retries=0)
question = [{"role": "user", "content": "How heavy is the Heron touring bike?"}]


def refusal(kind, **changes):
    """The error that a request ends with, which must be of this kind."""
    request = {"model": model, "messages": question, **changes}
    try:
        client.chat.completions.create(**request)
    except kind as error:
        expect(error.body and error.body["message"], f"{changes}: no message in {error}")
        return error
    fail(f"{changes}: was not refused")


model = client.models.list().data[0].id

raw = client.chat.completions.with_raw_response.create(
    model=model, messages=question, temperature=0, max_tokens=40, seed=7, n=1, top_p=1
)
whole = raw.parse()
choice = whole.choices[0]
expect(whole.object == "chat.completion" and whole.model == model, f"{whole}")
expect(choice.message.role == "assistant" and choice.message.content, f"no answer in {whole}")
expect(choice.finish_reason in ("stop", "length"), f"{choice.finish_reason}")
expect(whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, "usage")
expect(whole.nudge["event_id"] == raw.headers["x-nudge-event-id"], "event ids differ")
expect(len(whole.nudge["chain"]) == 64, "no chain")

chunks = list(
    client.chat.completions.create(
        model=model,
        messages=question,
        temperature=0,
        max_tokens=40,
        seed=7,
        stream=True,
        stream_options={"include_usage": True},
    )
)
text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
expect(text == choice.message.content, f"streamed {text!r}, whole {choice.message.content!r}")
expect(chunks[0].choices[0].delta.role == "assistant", "the first chunk has no role")
ends = [c for c in chunks if c.choices and c.choices[0].finish_reason]
expect(len(ends) == 1 and len(ends[0].nudge["chain"]) == 64, "not one end with a chain")
expect(chunks[-1].usage and chunks[-1].usage.total_tokens > 0, "no usage at the end")

again = {"model": model, "messages": question, "extra_headers": {"Idempotency-Key": "again-1"}}
first = client.chat.completions.create(**again)
second = client.chat.completions.create(**again)
expect(first.nudge["offset"] == second.nudge["offset"], "a question sent again was asked twice")

turns = [
    *question,
    {"role": "assistant", "content": choice.message.content},
    {"role": "user", "content": "And what does it cost?"},
]
follow_up = client.chat.completions.create(
    model=model, messages=turns, temperature=0, extra_body={"nudge": {"conversation_id": "c-1"}}
)
alone = client.chat.completions.create(model=model, messages=turns[-1:], temperature=0)
expect(follow_up.choices[0].message.content, f"no answer in {follow_up}")
expect(follow_up.usage.prompt_tokens > alone.usage.prompt_tokens, "the turns were not shown")
expect(not alone.nudge["cache_hit"], "another question's answer")

image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
expect(refusal(openai.BadRequestError, messages=image).param == "messages.0.content.0", "param")
refusal(openai.BadRequestError, max_tokens=-1)
refusal(openai.BadRequestError, tools=[{"type": "function", "function": {"name": "f"}}])
refusal(openai.BadRequestError, n=2)
expect(refusal(openai.NotFoundError, model="gpt-4o").code == "model_not_found", "code")
if key != "none":
    stranger = openai.OpenAI(base_url=base_url, api_key="nudge-wrong", max_retries=0)
    try:
        stranger.models.list()
        fail("a wrong key was taken")
    except openai.AuthenticationError:
        pass

server.send_signal(signal.SIGTERM)
expect(server.wait(STOP_SECONDS) == 0, "the server did not end well")
print(f"{model}: {choice.message.content}")
