"""A stand-in for a teacher: a server with OpenAI's API on loopback that writes complaints by rules, and costs nothing.

It is there to rehearse docs/first-run.md, and for the test of that page. Its few sentences are no substitute for a language
model: what is trained on them knows these sentences.

    python teacher_by_rules.py 8000 &
    export OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none
"""

from __future__ import annotations

import json
import random
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OPENINGS = (
    "Hello,",
    "Good morning,",
    "To whom it may concern:",
    "I am not happy.",
    "This is my third message.",
    "Hi team,",
)
THINGS = (
    "lamp",
    "kettle",
    "tent",
    "keyboard",
    "mirror",
    "backpack",
    "drill",
    "carpet",
    "blender",
    "helmet",
    "chair",
    "radio",
)
ENDINGS = (
    "Please look into it.",
    "What will you do?",
    "I expect an answer this week.",
    "Can somebody help?",
    "Thank you.",
)
#: Department -> sentences about a thing. Each has a word that only its department uses; the solver looks for those.
SENTENCES = {
    "billing": (
        "the invoice for the {} shows a price that I never saw",
        "my card was charged twice for one {}",
        "the discount code was not taken off the bill for the {}",
        "you took the fee for the {} from my account before I agreed",
    ),
    "delivery": (
        "the courier left the {} in the rain at the wrong house",
        "the tracking of my {} has not moved for {} days",
        "the driver says that he rang, but no {} has arrived",
        "the parcel with the {} is said to be in another town",
    ),
    "returns": (
        "the {} is broken and I want to send it back",
        "I sent the {} back {} days ago and nobody confirms it",
        "the {} does not fit, and the return label is missing",
        "I asked to exchange the {}, and you sent the same one again",
    ),
}
WORDS = {
    "billing": ("invoice", "charged", "discount", "fee", "bill", "price"),
    "delivery": ("courier", "tracking", "driver", "parcel", "delivery"),
    "returns": ("send it back", "sent the", "return label", "exchange", "broken", "send back"),
}


def write_complaint(rng: random.Random) -> tuple[str, str]:
    """Return a complaint and its department."""
    department = rng.choice(sorted(SENTENCES))
    form = rng.choice(SENTENCES[department])
    things = [rng.choice(THINGS), str(rng.randint(3, 30))]
    sentence = form.format(*things[: form.count("{}")])
    opening = rng.choice(OPENINGS)
    sentence = sentence[0].upper() + sentence[1:] if opening[-1] in ".:" else sentence
    return f"{opening} {sentence}. {rng.choice(ENDINGS)}", department


def find_department(text: str) -> str:
    """Return the department whose words a complaint has."""
    counts = {name: sum(word in text.lower() for word in words) for name, words in WORDS.items()}
    return max(counts, key=lambda name: counts[name])


def answer(body: Any, number: int) -> str:
    """Return the reply to a request."""
    messages = [message["content"] for message in body["messages"]]
    rng = random.Random(number)
    if "JSON object" in messages[-1]:
        complaint, department = write_complaint(rng)
        return json.dumps({"input": complaint, "output": department})
    if "search terms" in messages[-1]:
        return "customer complaints\ncustomer service\nweb shop"
    if "Summarise" in messages[-1]:
        return "One or two sentences of a customer about an order: a greeting, the trouble, a wish. The output is one word."
    return find_department(re.split(r"Answer with", messages[-1])[0])


class Handler(BaseHTTPRequestHandler):
    """Answers ``POST /v1/chat/completions``."""

    protocol_version = "HTTP/1.1"
    count = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choices = []
        for index in range(body.get("n") or 1):
            Handler.count += 1
            message = {"role": "assistant", "content": answer(body, Handler.count)}
            choices.append({"index": index, "finish_reason": "stop", "message": message})
        usage = {"prompt_tokens": len(str(body["messages"])) // 4, "completion_tokens": 20 * len(choices)}
        usage["total_tokens"] = sum(usage.values())
        reply = {"id": f"r{Handler.count}", "object": "chat.completion", "created": 0, "model": body["model"]}
        content = json.dumps({**reply, "choices": choices, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Print nothing for a request."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()
