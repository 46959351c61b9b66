import os
import pathlib
import subprocess
import types

archs = {(9, "0a")} if os.environ.get("STAND_IN_GPU") != "none" else set()
current_compilation_context = types.SimpleNamespace(TARGET_CUDA_ARCHS=archs)
cache = pathlib.Path(os.environ["FLASHINFER_WORKSPACE_BASE"]) / ".cache" / "flashinfer" / "0.6.18" / "90a" / "cached_ops"


class Spec:
    def __init__(self, name, *arguments):
        self.name = name
        self.arguments = arguments

    def get_library_path(self):
        return cache / self.name / f"{self.name}.so"


def build_jit_specs(specs, verbose=False):
    assert verbose, "ninja's lines are what progress is shown by"
    for i, spec in enumerate(specs):
        # Where it is a program that fails, so does the build.
        subprocess.run(["ninja", spec.name], check=True)
        path = spec.get_library_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{spec.arguments} libcudart.so.13")
        print(f"[{i + 1}/{len(specs)}] nvcc -c {spec.name}.cu", flush=True)
