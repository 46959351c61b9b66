"""
One case: runs the model, records it with faultline's recorder and writes OUT/NAME/ (the recording) and OUT/NAME.json (what
it said).

    python run.py NAME OUT --model models/ishmael-7m [--stand-in]
"""

import argparse
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=str(ROOT / "models" / "ishmael-7m"))
    parser.add_argument("--stand-in", action="store_true", help="FlashInfer's contract on the CPU, not the library")
    options = parser.parse_args()
    stand_ins = [str(HERE / "stand_in")] if options.stand_in else []
    sys.path[:0] = [*stand_ins, str(HERE), str(ROOT / "python")]
    result = run(options.name, options.out, options.model, "cpu" if options.stand_in else "cuda")
    (options.out / f"{options.name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False))
    print(json.dumps(result, ensure_ascii=False))


def run(name, out, folder, device):
    """Run and record a case; returns what it said and took."""
    import flashinfer
    import torch
    from cases import CASES
    from engine import Engine
    from model import load
    from pages import Pages
    from seams import FAULTS

    import faultline.flashinfer
    from faultline.engine import EngineRun

    case = CASES[name]
    seams = FAULTS[case.fault]()
    if device == "cpu":
        torch.set_num_threads(1)
    begin = time.time()
    model, config = load(folder, case.path, seams, device)
    pages = Pages(config, device=device)
    engine = Engine(config, pages, case.path, seams, **case.options)
    faultline.flashinfer.install()
    recording = EngineRun(
        model,
        out / name,
        layers=case.layers,
        steps=case.steps,
        names=case.names,
        runtime={"name": f"qwen3-over-flashinfer/{case.path}", "version": flashinfer.__version__},
    )
    waiting = dict(enumerate(list(prompt) for prompt in case.prompts))
    said = {sequence: [] for sequence in waiting}
    milliseconds = []
    with torch.inference_mode(), recording:
        while any(len(tokens) < case.new_tokens for tokens in said.values()):
            tokens = {sequence: ids[: case.chunk] for sequence, ids in waiting.items()}
            batch = pages.batch(tokens)
            engine.plan(batch)
            recording.batch(seq_ids=batch.seq_ids, qo_indptr=batch.qo_indptr.tolist())
            ids = torch.tensor(batch.token_ids, device=device)
            started = time.perf_counter()
            logits = model(ids, engine, batch)
            sampled = logits.float().argmax(-1).tolist()
            milliseconds.append(round(1000 * (time.perf_counter() - started), 2))
            recording.sample(sampled)
            for sequence, token in zip(batch.seq_ids, sampled):
                rest = waiting[sequence][case.chunk :]
                if not rest:
                    said[sequence].append(token)
                waiting[sequence] = rest or [token]
    return {
        "case": name,
        "fault": case.fault,
        "path": case.path,
        "texts": texts(folder, case.prompts, said),
        "tokens": list(said.values()),
        "flashinfer": flashinfer.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "milliseconds_per_step": milliseconds,
        "recorded_steps": case.steps,
        "recorded_bytes": sum(file.stat().st_size for file in (out / name).iterdir()),
        "seconds": round(time.time() - begin, 1),
    }


def texts(folder, prompts, said):
    """What was said, prompts included."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    return [tokenizer.decode([*prompt, *tokens]) for prompt, tokens in zip(prompts, said.values())]


if __name__ == "__main__":
    main()
