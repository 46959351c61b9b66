"""
All cases, each in a process of its own with a timeout, packed into OUT as they are done: a tar file per group of recordings,
and log.txt with what every case said. Cases that fail are logged and left out.

    python run_all.py OUT --model models/ishmael-7m [--stand-in] [--limit 360] [--workers 4] [--only NAME ...]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cases import CASES

HERE = Path(__file__).resolve().parent
#: Cases by the file they are packed into; the flight recorder's are run with FlashInfer's own recorder on, in two formats.
GROUPS = {
    "standard": ["standard"],
    "fused": ["fused"],
    "right": ["standard-rope-kernel", "fused-ragged", "fused-decode", "fused-tensor-cores"],
    "exclamation": ["exclamation-mark", "embedding-scaled", "bias-unfilled", "residual-dropped"],
    "seams-1": ["layout-mixed", "strides-forgotten", "combined-split", "indices-long", "last-page-short"],
    "seams-2": ["scale-wrong", "causal-forgotten", "plan-stale", "key-unrotated", "cached-unrotated"],
    "flight-recorder": ["flight-recorder-pt", "flight-recorder-safetensors"],
}
#: Seconds for a case: the first ones build the kernels that Triton and FlashInfer still lack.
CASE_LIMIT = 400
#: Calls that FlashInfer's own recorder keeps: the first layers of a prompt.
DUMPED_CALLS = 48


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--limit", type=float, default=900, help="seconds after which no further case is started")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--only", nargs="+", choices=CASES)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = time.time() + options.limit
    with tempfile.TemporaryDirectory() as work, open(options.out / "log.txt", "a") as log:
        run = Runner(Path(work), log, options, deadline)
        if not options.stand_in:
            run.prepare()
        with ThreadPoolExecutor(options.workers) as pool:
            started = {
                group: [pool.submit(run.case, name) for name in names if options.only is None or name in options.only]
                for group, names in GROUPS.items()
            }
            for group, cases in started.items():
                done = [case.result() for case in cases]
                run.pack(group, [name for name in done if name])


class Runner:
    def __init__(self, work, log, options, deadline):
        self.work, self.log, self.options, self.deadline = work, log, options, deadline

    def tell(self, text):
        line = f"[{time.strftime('%H:%M:%S')}] {text}"
        print(line, flush=True)
        self.log.write(line + "\n")
        self.log.flush()

    def prepare(self):
        """Say what machine it is and build FlashInfer's modules."""
        for command in (
            ["nvidia-smi", "-L"],
            ["nvcc", "--version"],
            [sys.executable, "-c", "import torch, triton, flashinfer; print(torch.__version__, triton.__version__, flashinfer.__version__)"],
            [sys.executable, str(HERE / "build_kernels.py")],
        ):
            self.command(" ".join(command[:2]), command, 300, os.environ.copy())

    def case(self, name):
        """Run a case; its name, or None where it failed."""
        if time.time() > self.deadline:
            self.tell(f"{name}: not started, the time is over")
            return None
        environment = os.environ.copy()
        out, case = self.work, name
        if name.startswith("flight-recorder"):
            out, case = self.work / name, "standard"
            out.mkdir()
            environment |= {
                "FLASHINFER_LOGLEVEL": "10",
                "FLASHINFER_LOGDEST": str(out / "log.txt"),
                "FLASHINFER_DUMP_DIR": str(out / "dump"),
                "FLASHINFER_DUMP_MAX_COUNT": str(DUMPED_CALLS),
                "FLASHINFER_DUMP_SAFETENSORS": "1" if name.endswith("safetensors") else "0",
            }
        command = [sys.executable, str(HERE / "run.py"), case, str(out), "--model", self.options.model]
        if self.options.stand_in:
            command.append("--stand-in")
        if not self.command(name, command, CASE_LIMIT, environment):
            return None
        if out != self.work:
            shutil.rmtree(out / case)
        else:
            result = json.loads((out / f"{name}.json").read_text())
            self.tell(f"{name}: {result['seconds']} s, {result['texts'][0]!r}")
        return name

    def command(self, name, command, timeout, environment):
        """Run a command, its output into the log; whether it went well."""
        begin = time.time()
        try:
            done = subprocess.run(
                command, timeout=timeout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            code, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as error:
            code, output = "timeout", str(error.stdout or "")
        except OSError as error:
            code, output = "not run", str(error)
        self.tell(f"{name}: {'ok' if code == 0 else f'FAILED ({code})'} in {time.time() - begin:.0f} s")
        if code != 0 or not name.startswith(tuple(CASES)):
            self.tell(output[-4000:])
        return code == 0

    def pack(self, group, names):
        """A group's recordings as OUT/GROUP.tar.gz."""
        if not names:
            return
        path = self.options.out / f"{group}.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for name in names:
                tar.add(self.work / name, name)
                if (self.work / f"{name}.json").exists():
                    tar.add(self.work / f"{name}.json", f"{name}.json")
        self.tell(f"{path.name}: {', '.join(names)}, {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
