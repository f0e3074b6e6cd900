"""How fast the embedded server is: against itself one request at a time, llama.cpp's server, and transformers.

    pip install xllamacpp          # llama.cpp's server, for the second part only
    python tests/benchmarks/serving.py [--short 48] [--long 8] [--engines 16]

1. `--short` distinct short requests through `dspy.LM`: all at once against one at a time.
2. `--long` distinct prompts of about 1,000 tokens with 32 output tokens: this server against llama.cpp's, the same
   GGUF file, in the same run, on the same cores, both with their default settings and 8 slots for llama.cpp.
3. `--engines` of the long prompts: the same folder of safetensors served by OpenVINO and by transformers, in the same
   precision, with the share of tokens that are equal up to the first that differs in each reply.

No two prompts share more than the chat template's opening, so prefix caching helps neither side; real prompts share
instructions and demonstrations, and gain by it. Ratios are of requests a second; CPU seconds stand beside them, for
machines that do other work meanwhile.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

MODEL = "smollm2-135m-instruct"
SLOTS = 8
OUTPUT_TOKENS = 32
WORDS = (
    "the agreement between supplier and customer shall remain in force until either party gives notice of termination "
    "in writing at least thirty days before renewal payment is due within sixty days of invoice confidential "
    "information may not be disclosed to others except as law requires governing jurisdiction is that of Delaware "
    "liability excludes indirect damages warranty covers defects in material for twelve months after delivery"
)


def prompts(count: int, words: int, seed: int) -> list[str]:
    """`count` prompts of `words` words in random order: as English as tokenisers need, and no two alike."""
    rng = random.Random(seed)
    return [f"{' '.join(rng.choices(WORDS.split(), k=words))}. Summarise the above." for _ in range(count)]


def timed(work: Callable[[str], int], inputs: Sequence[str], threads: int) -> tuple[float, float, int]:
    """Run `work` on every input; returns wall seconds, CPU seconds of this process, and the tokens reported."""
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as executor:
        tokens = sum(executor.map(work, inputs))
    return time.perf_counter() - wall, time.process_time() - cpu, tokens


def embedded(max_tokens: int) -> Callable[[str], int]:
    """A call of the embedded server through `dspy.LM`; returns the tokens it read and wrote."""
    from synth_dspy.models.embedded.engine import embedded_lm

    lm = embedded_lm(MODEL, max_tokens=max_tokens)
    lm(_request(lm.model, "Hello"))  # loads the model

    def work(prompt: str) -> int:
        return int(lm(_request(lm.model, prompt, max_tokens)).usage.total_tokens)

    return work


def _request(model: str, prompt: str, max_tokens: int = 1) -> object:
    from dspy.lm15 import Config, Message, Request

    return Request(model=model, messages=(Message.user(prompt),), config=Config(max_tokens=max_tokens))


def concurrency(count: int) -> float:
    """Part 1; returns the ratio of the throughputs."""
    work = embedded(max_tokens=OUTPUT_TOKENS)
    alone = timed(work, prompts(count // 4, 12, seed=1), threads=1)
    together = timed(work, prompts(count, 12, seed=2), threads=count)
    one, many = (count // 4) / alone[0], count / together[0]
    print(f"short requests, one at a time: {one:6.2f} a second, {alone[1] / (count // 4):.3f} CPU s each")
    print(f"short requests, {count} at once:   {many:6.2f} a second, {together[1] / count:.3f} CPU s each")
    print(f"ratio {many / one:.1f}\n")
    return many / one


def against_llama(count: int) -> float:
    """Part 2; returns the ratio of the throughputs."""
    import httpx
    import xllamacpp

    from synth_dspy.models.embedded.pool import pool
    from synth_dspy.models.weights.registry import resolve

    inputs = prompts(count, 800, seed=3)
    ours = timed(embedded(OUTPUT_TOKENS), inputs, threads=count)
    pool().close()

    params = xllamacpp.CommonParams()
    params.model.path = str(resolve(MODEL))
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * 2048
    params.verbosity, params.port = 0, 0
    server = xllamacpp.Server(params)
    with httpx.Client(base_url=server.listening_address, timeout=600) as client:

        def work(prompt: str) -> int:
            body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": OUTPUT_TOKENS, "temperature": 0}
            answer = client.post("/v1/chat/completions", json=body)
            answer.raise_for_status()
            return int(answer.json()["usage"]["total_tokens"])

        work("Hello")
        theirs = timed(work, inputs, threads=SLOTS)
    for name, (wall, cpu, tokens) in (("embedded", ours), ("llama.cpp", theirs)):
        each = f"{cpu / count:.2f} CPU s each"
        print(f"long requests, {name:9}: {count / wall:6.3f} a second, {tokens / wall:6.0f} tokens a second, {each}")
    print(f"ratio {theirs[0] / ours[0]:.1f} (by CPU seconds {theirs[1] / ours[1]:.1f})")
    return theirs[0] / ours[0]


def engines(count: int) -> float:
    """Part 3; returns the ratio of the throughputs."""
    from synth_dspy.models.embedded import backend
    from synth_dspy.models.embedded.generation import Sampling
    from synth_dspy.models.embedded.server import ModelServer
    from synth_dspy.training.base import base_folder

    inputs, replies, walls = prompts(count, 800, seed=4), [], []
    for engine in ("openvino", "transformers"):
        os.environ[backend.ENGINE] = engine
        choice = backend.choose(base_folder(MODEL))
        assert choice.engine == engine
        server = ModelServer(choice.path)
        sampling = Sampling(max_tokens=OUTPUT_TOKENS)

        def work(prompt: str, server: ModelServer = server, sampling: Sampling = sampling) -> tuple[list[int], int]:
            rendered = server.render([{"role": "user", "content": prompt}])
            reply = server.submit(rendered, sampling).result()
            return list(reply.token_ids), reply.prompt_tokens + reply.output_tokens

        work("Hello")
        wall, cpu = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(count) as executor:
            done = list(executor.map(work, inputs))
        walls.append(time.perf_counter() - wall)
        cpu = time.process_time() - cpu
        server.close()
        replies.append([ids for ids, _ in done])
        tokens = sum(each for _, each in done)
        print(f"{engine:12}: {tokens / walls[-1]:6.0f} tokens a second, {cpu / count:.2f} CPU s each")
    equal = sum(_agreeing(one, other) for one, other in zip(*replies, strict=True))
    print(f"equal tokens: {equal / sum(map(len, replies[0])):.1%}; OpenVINO is {walls[1] / walls[0]:.1f} times as fast")
    return walls[1] / walls[0]


def _agreeing(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens before the first that differs."""
    return next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))


def main() -> None:
    """Run the parts; 0 leaves one out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", type=int, default=48)
    parser.add_argument("--long", type=int, default=8)
    parser.add_argument("--engines", type=int, default=16)
    options = parser.parse_args()
    for part, count in ((concurrency, options.short), (against_llama, options.long), (engines, options.engines)):
        if count:
            part(count)


if __name__ == "__main__":
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    main()
