from ..core import Spec


def name(kind, q, kv, o, index, qk, vo, posenc, window, soft_cap):
    types = f"dtype_q_{q}_dtype_kv_{kv}_dtype_o_{o}_dtype_idx_{index}"
    rest = f"head_dim_qk_{qk}_head_dim_vo_{vo}_posenc_{posenc}_use_swa_{window}_use_logits_cap_{soft_cap}"
    return f"batch_{kind}_with_kv_cache_{types}_{rest}"


def gen_batch_decode_module(*arguments):
    return Spec(name("decode", *arguments), *arguments)


def gen_batch_prefill_module(backend, *arguments):
    assert backend == "fa2"
    return Spec(f"{name('prefill', *arguments[:-1])}_f16qk_{arguments[-1]}", *arguments)
