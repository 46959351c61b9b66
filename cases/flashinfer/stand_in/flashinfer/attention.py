"""The batch wrappers: plan once, run once per layer."""

import math

import torch

from .memory import as_read, unpack, words

_LOG2_E = math.log2(math.e)


class _Wrapper:
    def __init__(self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, backend="auto", **options):
        self._kv_layout = kv_layout
        self._backend = "fa2"
        self._options = options
        self._settings = None

    def _keep(self, heads, head_dim, q_data_type, causal, sm_scale, logits_soft_cap, window_left):
        if window_left != -1:
            raise NotImplementedError("the stand-in has no sliding window")
        self._settings = {
            "heads": heads,
            "dtype": q_data_type if isinstance(q_data_type, torch.dtype) else getattr(torch, q_data_type),
            "causal": causal,
            "scale": 1 / math.sqrt(head_dim) if sm_scale is None else sm_scale,
            "cap": logits_soft_cap or 0.0,
        }

    def _attend(self, q, out, lse, rows, keys, values, scale, rounded):
        """One sequence: q [rows, heads, head_dim] of it, keys and values [keys, key heads, head_dim]. Bottom-right causal."""
        heads, length = q.shape[1], keys.shape[0]
        group = heads // keys.shape[1]
        if length == 0:
            out[rows], lse[rows] = 0, -math.inf
            return
        k, v = (x.float().repeat_interleave(group, dim=1) for x in (keys, values))
        scores = torch.einsum("qhd,khd->hqk", as_read(q)[rows].float(), k) * scale
        if self._settings["cap"]:
            scores = self._settings["cap"] * torch.tanh(scores / self._settings["cap"])
        if self._settings["causal"]:
            count = rows.stop - rows.start
            seen = torch.arange(length)[None] <= torch.arange(count)[:, None] + length - count
            scores = scores.masked_fill(~seen, -math.inf)
        largest = scores.amax(-1, keepdim=True)
        weights = torch.exp2((scores - largest) * _LOG2_E)
        if rounded:
            # Tensor cores take the probabilities in the storage type, and their sum is taken from there.
            weights = weights.to(q.dtype).float()
        total = weights.sum(-1, keepdim=True)
        out[rows] = (torch.einsum("hqk,khd->qhd", weights, v) / total.permute(1, 0, 2)).to(out.dtype)
        lse[rows] = (largest * _LOG2_E + torch.log2(total))[..., 0].T

    def _outputs(self, q, k):
        if q.dtype != self._settings["dtype"] or k.dtype != self._settings["dtype"]:
            raise ValueError(f"the dtypes of q {q.dtype} and k {k.dtype} do not match the plan's")
        return torch.zeros(q.shape, dtype=q.dtype), torch.zeros(q.shape[:2], dtype=torch.float32)

    def _paged(self, q, cache, rounded, q_scale, k_scale, v_scale, return_lse):
        keys, values = (as_read(x) for x in unpack(cache, self._kv_layout))
        out, lse = self._outputs(q, keys)
        index = self._paged_kv_indptr_buf.dtype
        bounds, indices = words(self._paged_kv_indptr_buf, index), words(self._paged_kv_indices_buf, index)
        last = words(self._paged_kv_last_page_len_buf, index)
        queries = words(self._qo_indptr_buf, index)
        size = keys.shape[1]
        scale = self._settings["scale"] * (q_scale or 1) * (k_scale or 1)
        for b in range(len(bounds) - 1):
            pages = indices[bounds[b] : bounds[b + 1]]
            length = (len(pages) - 1) * size + last[b] if pages else 0
            held = [x[pages].reshape(-1, *x.shape[2:])[:length] for x in (keys, values)]
            self._attend(q, out, lse, slice(queries[b], queries[b + 1]), *held, scale, rounded)
        if v_scale is not None:
            out *= v_scale
        return (out, lse) if return_lse else out


class BatchDecodeWithPagedKVCacheWrapper(_Wrapper):
    def plan(
        self,
        indptr,
        indices,
        last_page_len,
        num_qo_heads,
        num_kv_heads,
        head_dim,
        page_size,
        *,
        window_left=-1,
        logits_soft_cap=None,
        q_data_type="float16",
        kv_data_type=None,
        sm_scale=None,
        **_,
    ):
        self._keep(num_qo_heads, head_dim, q_data_type, False, sm_scale, logits_soft_cap, window_left)
        self._paged_kv_indptr_buf, self._paged_kv_indices_buf = indptr, indices
        self._paged_kv_last_page_len_buf = last_page_len
        self._qo_indptr_buf = torch.arange(len(last_page_len) + 1, dtype=torch.int32)

    begin_forward = plan

    def run(self, q, paged_kv_cache, *args, q_scale=None, k_scale=None, v_scale=None, return_lse=False, **_):
        for index in (self._paged_kv_indptr_buf, self._paged_kv_indices_buf, self._paged_kv_last_page_len_buf):
            if index.dtype != torch.int32:
                raise TypeError("indices must be int32")
        rounded = bool(self._options.get("use_tensor_cores"))
        return self._paged(q, paged_kv_cache, rounded, q_scale, k_scale, v_scale, return_lse)


class BatchPrefillWithPagedKVCacheWrapper(_Wrapper):
    def plan(
        self,
        qo_indptr,
        paged_kv_indptr,
        paged_kv_indices,
        paged_kv_last_page_len,
        num_qo_heads,
        num_kv_heads,
        head_dim_qk,
        page_size,
        head_dim_vo=None,
        custom_mask=None,
        packed_custom_mask=None,
        causal=False,
        pos_encoding_mode="NONE",
        use_fp16_qk_reduction=False,
        sm_scale=None,
        window_left=-1,
        logits_soft_cap=None,
        rope_scale=None,
        rope_theta=None,
        q_data_type="float16",
        kv_data_type=None,
        **_,
    ):
        self._keep(num_qo_heads, head_dim_qk, q_data_type, causal, sm_scale, logits_soft_cap, window_left)
        self._qo_indptr_buf = qo_indptr
        self._paged_kv_indptr_buf, self._paged_kv_indices_buf = paged_kv_indptr, paged_kv_indices
        self._paged_kv_last_page_len_buf = paged_kv_last_page_len

    begin_forward = plan

    def run(self, q, paged_kv_cache, *args, q_scale=None, k_scale=None, v_scale=None, return_lse=False, **_):
        if q.shape[0] != int(self._qo_indptr_buf[-1]):
            raise ValueError("q.shape[0] does not match qo_indptr[-1]")
        return self._paged(q, paged_kv_cache, True, q_scale, k_scale, v_scale, return_lse)


class BatchPrefillWithRaggedKVCacheWrapper(_Wrapper):
    def plan(
        self,
        qo_indptr,
        kv_indptr,
        num_qo_heads,
        num_kv_heads,
        head_dim_qk,
        head_dim_vo=None,
        custom_mask=None,
        packed_custom_mask=None,
        causal=False,
        pos_encoding_mode="NONE",
        use_fp16_qk_reduction=False,
        window_left=-1,
        logits_soft_cap=None,
        sm_scale=None,
        rope_scale=None,
        rope_theta=None,
        q_data_type="float16",
        kv_data_type=None,
        **_,
    ):
        self._keep(num_qo_heads, head_dim_qk, q_data_type, causal, sm_scale, logits_soft_cap, window_left)
        self._qo_indptr_buf, self._kv_indptr_buf = qo_indptr, kv_indptr

    begin_forward = plan

    def run(self, q, k, v, *args, return_lse=False, **_):
        out, lse = self._outputs(q, k)
        queries, bounds = self._qo_indptr_buf.tolist(), self._kv_indptr_buf.tolist()
        for b in range(len(bounds) - 1):
            held = [as_read(x)[bounds[b] : bounds[b + 1]] for x in (k, v)]
            rows = slice(queries[b], queries[b + 1])
            self._attend(q, out, lse, rows, *held, self._settings["scale"], True)
        return (out, lse) if return_lse else out
