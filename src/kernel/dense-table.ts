// A table keyed by integers that are handed out in ascending order: objects and tasks of one owner. Pages of slots instead of a hash:
//
//     key - base  =  | page number | slot |        the page that was used last is at hand
//
// Filling and emptying a Map with a million keys costs half a microsecond an entry (hashing of keys above 2^31, rehashing, tombstones);
// this costs a tenth.
//
//   D1. What a key maps to is in one slot; a page without entries is dropped.
//   D2. Entries that stay behind alone keep their page: 2 KiB at the most for each.

const PAGE_BITS = 8
const PAGE_SLOTS = 1 << PAGE_BITS
const KEYS_MAX = 0x1_0000_0000

class Page<T> {
  readonly number: number
  readonly slots: (T | undefined)[] = new Array(PAGE_SLOTS)
  count = 0
  constructor(number: number) {
    this.number = number
  }
}

export class DenseTable<T> {
  readonly #base: number
  readonly #pages = new Map<number, Page<T>>()
  #last: Page<T> | null = null
  #size = 0

  /** Keys are `base` … `base` + 2^32 - 1; others are never found. */
  constructor(base = 0) {
    this.#base = base
  }

  get size(): number {
    return this.#size
  }

  get(key: number): T | undefined {
    const offset = key - this.#base
    if (offset < 0 || offset >= KEYS_MAX) return undefined
    return this.#page(offset >>> PAGE_BITS)?.slots[offset & (PAGE_SLOTS - 1)]
  }

  has(key: number): boolean {
    return this.get(key) !== undefined
  }

  set(key: number, value: T): void {
    const offset = key - this.#base
    if (offset < 0 || offset >= KEYS_MAX) throw new RangeError(`the key ${key} does not belong into this table`)
    const number = offset >>> PAGE_BITS
    let page = this.#page(number)
    if (!page) {
      page = new Page(number)
      this.#pages.set(number, page)
      this.#last = page
    }
    const slot = offset & (PAGE_SLOTS - 1)
    if (page.slots[slot] === undefined) {
      page.count++
      this.#size++
    }
    page.slots[slot] = value
  }

  delete(key: number): boolean {
    const offset = key - this.#base
    if (offset < 0 || offset >= KEYS_MAX) return false
    const page = this.#page(offset >>> PAGE_BITS)
    const slot = offset & (PAGE_SLOTS - 1)
    if (page?.slots[slot] === undefined) return false
    page.slots[slot] = undefined
    this.#size--
    if (--page.count > 0) return true
    this.#pages.delete(page.number)
    if (this.#last === page) this.#last = null
    return true
  }

  /** Entries may be deleted meanwhile. */
  *[Symbol.iterator](): Generator<[number, T]> {
    for (const { number, slots } of [...this.#pages.values()]) {
      for (let slot = 0; slot < PAGE_SLOTS; slot++) {
        const value = slots[slot]
        if (value !== undefined) yield [this.#base + number * PAGE_SLOTS + slot, value]
      }
    }
  }

  *keys(): Generator<number> {
    for (const [key] of this) yield key
  }

  *values(): Generator<T> {
    for (const [, value] of this) yield value
  }

  #page(number: number): Page<T> | undefined {
    const last = this.#last
    if (last !== null && last.number === number) return last
    const page = this.#pages.get(number)
    if (page) this.#last = page
    return page
  }
}
