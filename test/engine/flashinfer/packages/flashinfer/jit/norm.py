from .core import Spec


def gen_norm_module():
    return Spec("norm")
