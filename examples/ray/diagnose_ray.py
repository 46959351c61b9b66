"""Share a faultline diagnosis out over a Ray cluster, or over the cores of this machine.

    python diagnose_ray.py RUN [RUN ...] --model DIR [--shares 8] [--address auto] [--faultline "npx faultline"] [--json]

Each share is one Ray task: `faultline diagnose --part i/n`. Parts come back as bytes, so that only the recording and the
model have to be where the tasks run. The verdict is that of `faultline merge`, and so is the exit code.
"""

import argparse
import pathlib
import shlex
import subprocess
import sys
import tempfile

import ray


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="+", help="the recording: of several ranks each one's directory")
    parser.add_argument("--model", required=True, help="its model folder")
    parser.add_argument("--shares", type=int, default=8, help="tasks to share the units out to")
    parser.add_argument("--cpus", type=int, default=1, help="cores that a task asks Ray for")
    parser.add_argument("--address", help="a running cluster, such as auto; this machine alone when left out")
    parser.add_argument("--faultline", default="npx faultline", help="the command")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    return parser.parse_args()


def absolute(paths):
    """Tasks run in folders of their own."""
    return [str(pathlib.Path(path).resolve()) for path in paths]


@ray.remote
def check(command, target, model, part, shares):
    """What share `part` of `shares` found: the bytes of its part file."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/part.json"
        words = [*command, "diagnose", *target, "--model", model, "--part", f"{part}/{shares}", "--out", out]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return pathlib.Path(out).read_bytes()


def main():
    options = arguments()
    command = shlex.split(options.faultline)
    target, [model] = absolute(options.target), absolute([options.model])
    ray.init(address=options.address)
    task = check.options(num_cpus=options.cpus)
    found = ray.get([task.remote(command, target, model, part, options.shares) for part in range(1, options.shares + 1)])
    ray.shutdown()
    with tempfile.TemporaryDirectory() as folder:
        parts = [f"{folder}/part-{i}.json" for i in range(len(found))]
        for path, part in zip(parts, found):
            pathlib.Path(path).write_bytes(part)
        merge = [*command, "merge", *parts, "--target", *target, "--model", model]
        sys.exit(subprocess.run(merge + ["--json"] * options.json).returncode)


if __name__ == "__main__":
    main()
