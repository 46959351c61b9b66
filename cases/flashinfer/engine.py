"""Attention over pages: RoPE, append and FlashInfer's wrappers, planned once per step."""

import flashinfer
import torch


class Engine:
    """
    `path`: "standard" or "fused". `ragged`: prompts attend to themselves through the ragged wrapper, not through the cache.
    `tensor_cores`: decode through the prefill kernel. `rope`: "table" for a float32 table of cosines and sines, "kernel" for
    angles computed in FlashInfer's kernel.
    """

    def __init__(self, config, pages, path, seams, *, ragged=False, tensor_cores=False, rope="table"):
        self.config, self.pages, self.path, self.seams = config, pages, path, seams
        self.ragged, self.rope = ragged, rope
        device = pages.device
        layout = seams.read_layout()
        workspace = torch.zeros(128 * 2**20 if device != "cpu" else 16, dtype=torch.uint8, device=device)
        self._decode = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            workspace, layout, use_tensor_cores=tensor_cores
        )
        self._prefill = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, layout, backend="fa2")
        self._ragged = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace, layout, backend="fa2")
        self._decode_steps = 0
        frequencies = config.theta ** (-torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim)
        angles = torch.arange(512, dtype=torch.float64)[:, None] * frequencies
        self._table = torch.cat([angles.cos(), angles.sin()], dim=-1).float().to(device)

    def plan(self, batch):
        """Tell the wrapper of this step its batch."""
        config, seams = self.config, self.seams
        heads = (config.heads, config.key_heads, config.head_dim)
        types = {"q_data_type": torch.bfloat16, "kv_data_type": torch.bfloat16}
        table = (
            batch.kv_indptr,
            seams.indices(batch.kv_indices, batch.is_decode),
            seams.last_page_len(batch.kv_last_page_len, batch.is_decode),
        )
        if batch.is_decode:
            if seams.plans_decode(self._decode_steps):
                settings = seams.decode_settings(config.head_dim)
                self._decode.plan(*table, *heads, self.pages.page_size, **types, **settings)
            self._decode_steps += 1
        elif self.ragged and batch.is_first:
            settings = seams.prefill_settings(config.head_dim)
            self._ragged.plan(batch.qo_indptr, batch.qo_indptr, *heads, **types, **settings)
        else:
            settings = seams.prefill_settings(config.head_dim)
            self._prefill.plan(batch.qo_indptr, *table, *heads, self.pages.page_size, **types, **settings)

    def rotate(self, query, key, batch):
        """Queries and keys [rows, heads, head_dim] turned by their positions; new tensors."""
        if self.rope == "kernel":
            return flashinfer.apply_rope_pos_ids(query, key, batch.positions, rope_theta=self.config.theta)
        rows, width = query.shape[0], self.config.head_dim
        if self.path == "standard":
            turned = flashinfer.apply_rope_with_cos_sin_cache(
                batch.positions, query.view(rows, -1), key.view(rows, -1), width, self._table
            )
            return tuple(x.view(rows, -1, width) for x in turned)
        query, key = query.clone(), key.clone()
        flashinfer.apply_rope_with_cos_sin_cache_inplace(
            batch.positions, query.view(rows, -1), key.view(rows, -1), width, self._table
        )
        return query, key

    def attend(self, layer, batch, qkv, query, key, rotated, value):
        """Append to the layer's pages, then attend: [rows, heads, head_dim]. `key` is not yet rotated, `rotated` is."""
        seams, cache = self.seams, self.pages.cache[layer]
        new_key, new_value = seams.appended(qkv, seams.keys_to_append(key, rotated), value)
        flashinfer.append_paged_kv_cache(
            new_key,
            new_value,
            batch.batch_indices,
            batch.positions,
            cache,
            batch.kv_indices,
            batch.kv_indptr,
            batch.kv_last_page_len,
        )
        if batch.is_decode:
            return self._decode.run(query, seams.read(cache))
        if self.ragged and batch.is_first:
            return self._ragged.run(query, seams.keys_to_attend(key, rotated), value)
        return self._prefill.run(query, seams.read(cache))
