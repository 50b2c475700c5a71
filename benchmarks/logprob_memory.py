"""Peak memory of log-probs with all logits at once and in chunks.

    python benchmarks/logprob_memory.py

Each case runs in a process of its own; its peak is the process's, less what it had before.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

TOKENS, VOCAB, WIDTH = 2048, 151_936, 64  # the vocabulary of Qwen 2.5; a body of next to nothing


def measure(chunk: int) -> dict[str, float]:
    """GiB at the peak of a forward and a backward pass through the head, and seconds."""
    import torch
    from torch import nn

    from foldgym.trainers.heads import Form, read_hidden

    torch.manual_seed(0)
    hidden_ND = torch.randn(TOKENS, WIDTH, requires_grad=True)
    head = nn.Linear(WIDTH, VOCAB, bias=False)
    head.weight.grad = torch.zeros_like(head.weight)
    ids_N = torch.randint(VOCAB, (TOKENS,))
    before, started = peak(), time.perf_counter()
    logp_N, _ = read_hidden(hidden_ND, head, ids_N, Form(), chunk=chunk, entropy_gradient=False)
    logp_N.sum().backward()
    seconds = time.perf_counter() - started
    return {"gib": peak() - before, "seconds": seconds, "logp": float(logp_N.detach().sum())}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
        return
    print(f"{TOKENS} trained tokens, vocabulary {VOCAB}, fp32: all logits are "
          f"{4 * TOKENS * VOCAB / 2**30:.2f} GiB")  # fmt: skip
    for chunk in (0, 512, 128):
        command = [sys.executable, __file__, str(chunk)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        print(f"chunk {chunk or 'all':>4}: {found['gib']:.2f} GiB, {found['seconds']:.1f} s, "
              f"sum of log-probs {found['logp']:.4f}")  # fmt: skip


if __name__ == "__main__":
    main()
