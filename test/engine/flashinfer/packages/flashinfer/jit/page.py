from .core import Spec


def gen_page_module():
    return Spec("page")
