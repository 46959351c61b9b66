// Where the key and value rows of a sequence lie: FlashInfer's CSR page table over pages of any strides, or rows that
// follow one another (ragged K and V, a page size of 0). Strides are in elements, whole multiples of eight.
#pragma once
#include "parameters.cuh"

// In chunks of eight elements.
struct CacheRow {
  size_t key, value;
};

__device__ __forceinline__ CacheRow rowInPage(const AttentionParameters& a, size_t page, unsigned place, unsigned head) {
  return {(a.keyOffset + page * a.keyPageStride + static_cast<size_t>(place) * a.keySlotStride + head * a.keyHeadStride) / 8,
          (a.valueOffset + page * a.valuePageStride + static_cast<size_t>(place) * a.valueSlotStride +
           head * a.valueHeadStride) / 8};
}

// Of a slot of the batch: page · page size + place in the page.
__device__ __forceinline__ CacheRow rowOfSlot(
    const AttentionParameters& a, const BatchHeader& header, unsigned slot, unsigned head) {
  return rowInPage(a, slot / header.pageSize, slot % header.pageSize, head);
}

// Of a position of the sequence whose entries of the page table, or rows, begin at `first`.
__device__ __forceinline__ CacheRow rowOfPosition(const AttentionParameters& a, const BatchHeader& header, const int* batch,
                                                  unsigned pageSize, unsigned first, unsigned position, unsigned head) {
  if (pageSize == 0) return rowInPage(a, first + position, 0, head);
  const unsigned page = batch[header.kvIndicesAt + first + position / pageSize];
  return rowInPage(a, page, position % pageSize, head);
}
