"""Uses vLLM without a server: `python offline.py MODEL FIGURES` writes what it asked for and was given."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

TOKENS = [5, 9, 3, 7]
"""That each prompt of a call is answered with."""
ANSWERS = [1, 1, 3, 1]
"""To each prompt."""
BEAMS = 2
BEAM_TOKENS = 3
BEAM_PROMPT = "eeeeee"


def main(model: str, figures: Path) -> None:
    """Two calls of `generate` and one of `beam_search`: the engine numbers its requests through."""
    from vllm.sampling_params import BeamSearchParams

    from vllm import LLM, SamplingParams

    llm = LLM(
        model, load_format="dummy", dtype="float32", max_model_len=256, max_num_seqs=16, enforce_eager=True
    )
    wishes = [
        SamplingParams(max_tokens=tokens, n=answers, ignore_eos=True)
        for tokens, answers in zip(TOKENS, ANSWERS, strict=True)
    ]
    calls: list[dict[str, Any]] = []
    for _ in range(2):
        begun = time.time_ns()
        outputs = llm.generate([letter * 5 for letter in "abcd"], wishes, use_tqdm=False)
        over = time.time_ns()
        requests = [
            {
                "id": output.request_id,
                "prompt": len(output.prompt_token_ids),
                "tokens": [len(answer.token_ids) for answer in output.outputs],
            }
            for output in outputs
        ]
        calls.append({"begun": begun, "over": over, "requests": requests})
    search = BeamSearchParams(beam_width=BEAMS, max_tokens=BEAM_TOKENS, ignore_eos=True)
    (found,) = llm.beam_search([{"prompt": BEAM_PROMPT}], search)
    beams = [len(sequence.tokens) for sequence in found.sequences]
    figures.write_text(json.dumps({"calls": calls, "beams": beams}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
