from .core import Spec


def gen_rope_module():
    return Spec("rope")
