// Where the key and value rows of a sequence lie: FlashInfer's CSR page table over pages of any strides, or, with PAGED
// false, rows that follow one another (ragged K/V). Strides are in elements and whole multiples of eight.

override PAGED: bool = true;
override CACHE_FORMAT: u32 = 0u;

struct CacheRow {
  key: u32,
  value: u32,
}

fn row_in_page(page: u32, place: u32, head: u32) -> CacheRow {
  return CacheRow(
    addressing.keyOffset + page * addressing.keyPageStride + place * addressing.keySlotStride + head * addressing.keyHeadStride,
    addressing.valueOffset + page * addressing.valuePageStride + place * addressing.valueSlotStride + head * addressing.valueHeadStride,
  );
}

// Of a slot of the batch: page · page size + place in the page.
fn row_of_slot(slot: u32, head: u32) -> CacheRow {
  return row_in_page(page_entry(0u, slot), place_in_page(slot), head);
}

// Of a position of the sequence whose entries of the page table, or rows, begin at `first`.
fn cache_row(first: u32, position: u32, head: u32) -> CacheRow {
  if (!PAGED) {
    return row_in_page(first + position, 0u, head);
  }
  let page = u32(batch[header.kvIndicesAt + page_entry(first, position)]);
  return row_in_page(page, place_in_page(position), head);
}
