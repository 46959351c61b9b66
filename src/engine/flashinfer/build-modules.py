"""Builds modules of the installed FlashInfer with its own generator, nvcc and ninja, and copies them and what they load into
one folder. Called with one argument, JSON: {"folder", "modules": [{"kind", "headDim", "window", "softCap"}]}.
Ninja's own lines go to standard output; lines of this program are JSON objects: {"missing"}, {"failed"} or {"built"}."""

import glob
import importlib.util
import json
import os
import re
import shutil
import sys
import types


class Missing(Exception):
    """A package or program that is not there, in one sentence."""


def package_folder(module, package):
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise Missing(f"{sys.executable} has no package {package}: pip install {package}")
    return list(found.submodule_search_locations)[0]


def require_programs():
    # Programs of an environment that is not active lie beside its Python.
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")
    if not shutil.which("ninja"):
        raise Missing("ninja is not on the PATH: pip install ninja")
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    nvcc = os.environ.get("FLASHINFER_NVCC", os.path.join(home, "bin", "nvcc"))
    if not shutil.which("nvcc") and not os.path.exists(nvcc):
        raise Missing(f"nvcc is neither on the PATH nor {nvcc}: install a CUDA toolkit, or name it in CUDA_HOME")


def generator():
    """FlashInfer's generator without the package's own __init__, which loads far more than it needs."""
    folder = package_folder("flashinfer", "flashinfer-python")
    package_folder("tvm_ffi", "apache-tvm-ffi")
    if importlib.util.find_spec("torch") is None:
        raise Missing(f"{sys.executable} has no package torch: pip install torch")
    require_programs()
    package = types.ModuleType("flashinfer")
    package.__path__ = [folder]
    sys.modules["flashinfer"] = package
    try:
        import flashinfer.jit.core as core
    except ImportError as error:
        raise Missing(f"FlashInfer's generator cannot be loaded with {sys.executable}: {error}") from error
    if not core.current_compilation_context.TARGET_CUDA_ARCHS:
        raise Missing("torch sees no GPU: name its architecture in FLASHINFER_CUDA_ARCH_LIST, such as 9.0a for an H200")
    return core


def specs(modules):
    import torch
    from flashinfer.jit.attention.modules import gen_batch_decode_module, gen_batch_prefill_module
    from flashinfer.jit.norm import gen_norm_module
    from flashinfer.jit.page import gen_page_module
    from flashinfer.jit.rope import gen_rope_module

    types_of = (torch.bfloat16, torch.bfloat16, torch.bfloat16, torch.int32)
    for module in modules:
        # No positions of its own; sliding window; soft cap of logits.
        shape = (module["headDim"], module["headDim"], 0, module["window"], module["softCap"])
        if module["kind"] == "decode":
            yield gen_batch_decode_module(*types_of, *shape)
        else:
            yield gen_batch_prefill_module("fa2", *types_of, *shape, False)
    yield from (gen_page_module(), gen_norm_module(), gen_rope_module())


def put(source, folder):
    """Copies a file so that whoever looks finds all of it or none."""
    target = os.path.join(folder, os.path.basename(source))
    shutil.copyfile(source, target + ".new")
    os.replace(target + ".new", target)


def cuda_runtime(library):
    """The CUDA runtime that a module asks for, where the toolkit or PyPI's packages have it."""
    with open(library, "rb") as file:
        wanted = re.search(rb"libcudart\.so\.\d+", file.read())
    if wanted is None:
        return None
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), nvcc and os.path.dirname(os.path.dirname(nvcc))]
    folders = [os.path.join(home, name) for home in (*homes, "/usr/local/cuda") if home for name in ("lib64", "lib")]
    folders += [found for path in sys.path for found in glob.glob(os.path.join(path, "nvidia", "*", "lib"))]
    candidates = [os.path.join(folder, wanted[0].decode()) for folder in folders]
    return next((path for path in candidates if os.path.exists(path)), None)


def build(request):
    core = generator()
    found = list(specs(request["modules"]))
    core.build_jit_specs(found, verbose=True)
    import flashinfer.version
    import tvm_ffi

    folder = request["folder"]
    os.makedirs(folder, exist_ok=True)
    libraries = [str(spec.get_library_path()) for spec in found]
    runtime = os.path.join(os.path.dirname(tvm_ffi.__file__), "lib", "libtvm_ffi.so")
    for path in [runtime, *filter(None, [cuda_runtime(libraries[0])]), *libraries]:
        put(path, folder)
    return {"flashinfer": flashinfer.version.__version__, "tvmFfi": tvm_ffi.__version__, "modules": len(found)}


def tell(**what):
    print(json.dumps(what), flush=True)


try:
    tell(built=build(json.loads(sys.argv[1])))
except Missing as error:
    tell(missing=str(error))
except Exception as error:
    tell(failed=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
