"""What choosing the tokens of a step costs, by what the rows ask for."""

from __future__ import annotations

import sys

import torch

from llmserve.domain import SamplingParams
from llmserve.engines.batching.compute.sampling.masks import MaskThreads
from llmserve.engines.batching.compute.sampling.sampler import sample
from llmserve.engines.rules.allowed_tokens import AllowedTokens
from measure.gpu.contact.workload import median_seconds, plan_of, rows_of

VOCAB = 151_936
ASKED = {
    "greedy": SamplingParams(temperature=0.0),
    "temperature": SamplingParams(temperature=0.7),
    "top-p 0.9": SamplingParams(temperature=0.7, top_p=0.9),
    "top-k 40, top-p 0.9": SamplingParams(temperature=0.7, top_k=40, top_p=0.9),
    "min-p 0.05": SamplingParams(temperature=0.7, min_p=0.05),
    "greedy, repetition": SamplingParams(temperature=0.0, repetition_penalty=1.1),
    "temperature, presence": SamplingParams(temperature=0.7, presence_penalty=0.5),
    "greedy, bias": SamplingParams(temperature=0.0, logit_bias=((5, 2.0), (9, -3.0))),
    "greedy, 5 logprobs": SamplingParams(temperature=0.0, logprobs=5),
}
RESTRICTED = "greedy, every row restricted"
ASKED[RESTRICTED] = SamplingParams(temperature=0.0)


def main(argv: list[str]) -> int:
    """`sampling_costs [DEVICE]`."""
    device = torch.device(argv[0] if argv else "cuda:0")
    threads = MaskThreads(device)
    rule = AllowedTokens(range(0, VOCAB, 3))
    print(f"=> sampling {VOCAB:,} tokens, ms: 8 rows, 64 rows, 256 rows")
    for name, params in ASKED.items():
        costs = []
        for count in (8, 64, 256):
            plan = plan_of(count, 200, 16)
            rows = rows_of(plan, device, VOCAB, params)
            for row in rows if name == RESTRICTED else ():
                row.rule = rule
            original = torch.randn(count, VOCAB, device=device) * 3
            logits = original.clone()

            def work(rows=rows, logits=logits, original=original):
                logits.copy_(original)
                sample(logits, rows, masks=threads.begin(rows))

            costs.append(median_seconds(work, 10 if device.type == "cuda" else 2))
        print(f"=> {name:28}", " ".join(f"{cost * 1e3:8.2f}" for cost in costs), flush=True)
    threads.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
