// Positions by the page table: the entry of a position's page, and its place in the page.

// Tokens per page where known beforehand, which turns divisions into shifts; 0 to read it from the header.
override PAGE_SIZE: u32 = 0u;

fn page_size() -> u32 {
  return select(header.pageSize, PAGE_SIZE, PAGE_SIZE != 0u);
}

// For a sequence whose entries begin at `first`.
fn page_entry(first: u32, position: u32) -> u32 {
  return first + position / page_size();
}

fn place_in_page(position: u32) -> u32 {
  return position % page_size();
}
