// The way from what is sent to what cannot be: `square → helper → config.db: Socket`.

export type Hop =
  /** An index, or a property's name. */
  number | string | { readonly via: 'function' | 'variable' | 'part'; readonly name: string }

export class ClosureError extends Error {
  /** From the root to what cannot travel. */
  readonly path: string
  readonly why: string
  readonly hint: string

  constructor(path: string, why: string, hint: string) {
    super(`${path}: ${why}`)
    this.name = 'ClosureError'
    this.path = path
    this.why = why
    this.hint = hint
  }
}

/** `kind`: what stands at the end, e.g. a class name. */
export function formatTrail(root: string, hops: readonly Hop[], kind: string | null): string {
  const parts = [root]
  for (const hop of hops) {
    if (typeof hop === 'number') parts[parts.length - 1] += `[${hop}]`
    else if (typeof hop === 'string') {
      const isName = /^[\p{ID_Start}$_#][\p{ID_Continue}$]*$/u.test(hop)
      parts[parts.length - 1] += isName ? `.${hop}` : `[${JSON.stringify(hop)}]`
    } else if (hop.via === 'part') parts[parts.length - 1] += ` (${hop.name})`
    else if (hop.via === 'variable') parts.push(hop.name)
    // A function is usually found under its own name already.
    else if (hop.name && !lastNameIs(parts.at(-1) ?? '', hop.name)) parts.push(hop.name)
  }
  return parts.join(' → ') + (kind === null ? '' : `: ${kind}`)
}

function lastNameIs(part: string, name: string): boolean {
  return part === name || part.endsWith(`.${name}`)
}

/** What users call this value's kind. */
export function kindOf(value: unknown): string {
  if (typeof value === 'function') return 'function'
  if (typeof value !== 'object' || value === null) return typeof value
  const tag = Object.prototype.toString.call(value).slice(8, -1)
  if (tag !== 'Object') return tag
  const type = (Object.getPrototypeOf(value) as { constructor?: { name?: string } } | null)?.constructor
  return type?.name || 'object'
}
