// Derives the state of every feature row from a test report: the pure part of scripts/features.ts.
//
//   K1. A row passes when at least one test of the last full run names it and all that name it passed. Skipped tests prove nothing.
//   K2. A row differs on purpose when docs/features-differs.json gives the reason; tests that name it must pass all the same.
//   K3. Nothing else sets a state.

export interface Row {
  readonly id: string
  readonly title: string
}

export interface Assertion {
  readonly title: string
  readonly ancestorTitles?: readonly string[]
  readonly status: string
}

export interface Report {
  readonly testResults: readonly { readonly name: string; readonly assertionResults: readonly Assertion[] }[]
}

export type State = 'passing' | 'failing' | 'differs' | 'missing'

export interface Verdict extends Row {
  readonly state: State
  /** Why it differs, if it does. */
  readonly reason: string | null
  /** `file: title` of the tests that prove it, or that fail. */
  readonly tests: readonly string[]
}

const TAGS = /^(?:\[[A-Z][A-Z0-9]*-\d+\]\s*)+/

/** Row ids at the start of a title. */
export function idsOf(title: string): string[] {
  return TAGS.exec(title)?.[0].match(/[A-Z][A-Z0-9]*-\d+/g) ?? []
}

/** @throws Error when a test or a reason names a row that does not exist. */
export function derive(rows: readonly Row[], differs: Readonly<Record<string, string>>, report: Report): Verdict[] {
  const proofs = new Map<string, { readonly text: string; readonly status: string }[]>()
  for (const file of report.testResults) {
    const name = file.name.slice(Math.max(0, file.name.search(/(src|test)\/(?!.*\/(src|test)\/)/)))
    for (const { title, ancestorTitles = [], status } of file.assertionResults) {
      const text = `${name}: ${title.replace(TAGS, '')}`
      for (const id of new Set([...ancestorTitles, title].flatMap(idsOf))) {
        proofs.set(id, [...(proofs.get(id) ?? []), { text, status }])
      }
    }
  }
  const known = new Set(rows.map(({ id }) => id))
  const unknown = [...proofs.keys(), ...Object.keys(differs)].filter((id) => !known.has(id))
  if (unknown.length > 0) throw new Error(`rows that do not exist are named: ${unknown.join(', ')}`)
  return rows.map((row) => verdictOf(row, differs[row.id] ?? null, proofs.get(row.id) ?? []))
}

function verdictOf(row: Row, reason: string | null, proofs: readonly { text: string; status: string }[]): Verdict {
  const texts = (status: string): string[] => proofs.filter((proof) => proof.status === status).map(({ text }) => text)
  const [failed, passed] = [texts('failed'), texts('passed')]
  if (failed.length > 0) return { ...row, state: 'failing', reason, tests: failed }
  if (reason !== null) return { ...row, state: 'differs', reason, tests: passed }
  return { ...row, state: passed.length > 0 ? 'passing' : 'missing', reason, tests: passed }
}

/** The table as a page of Markdown, and its one-line summary. */
export function render(verdicts: readonly Verdict[]): { page: string; summary: string } {
  const states: readonly State[] = ['passing', 'failing', 'differs', 'missing']
  const summary = states
    .map((state) => `${verdicts.filter((verdict) => verdict.state === state).length} ${state}`)
    .join(', ')
  const cell = (text: string): string => text.replace(/(?<!\\)\|/g, '\\|')
  const lines = verdicts.map(({ id, title, state, reason, tests }) => {
    const proof = [...(reason === null ? [] : [`*${reason}*`]), ...tests].join('<br>')
    return `| ${id} | ${cell(title)} | ${state} | ${cell(proof)} |`
  })
  const head = [
    '# Features',
    '',
    `${summary}. Written by \`npm run features\` from the last full test run; no row is marked by hand.`,
    '',
    '- **passing**: every test that names the row in its title passed in the last full run, and there is at least one.',
    '- **differs**: ray-ts does it another way on purpose, or not at all; the reason stands in italics.',
    '- **missing**: no passing test names it.',
    '',
    '`EXTRA-nn` are features that users of Ray expect beyond its guide.',
    '',
    '| id | feature | state | reason, tests |',
    '|---|---|---|---|',
  ]
  return { page: [...head, ...lines, ''].join('\n'), summary }
}
