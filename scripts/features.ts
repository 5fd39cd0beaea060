// Writes docs/features.md: every row, its state, and the tests that prove it. States are derived, never set by hand.

import fs from 'node:fs'

interface Assertion {
  readonly title: string
  readonly status: string
}
interface Report {
  readonly testResults: readonly { readonly name: string; readonly assertionResults: readonly Assertion[] }[]
}

const REPORT = '.cache/test-report.json'
const rows = JSON.parse(fs.readFileSync('docs/features-data.json', 'utf8')) as { id: string; title: string }[]
const differs = JSON.parse(fs.readFileSync('docs/features-differs.json', 'utf8')) as Record<string, string>
if (!fs.existsSync(REPORT)) {
  console.error(`${REPORT} is not there: run npm test first`)
  process.exit(1)
}
const report = JSON.parse(fs.readFileSync(REPORT, 'utf8')) as Report
const proofs = new Map<string, { text: string; isPassed: boolean }[]>()
for (const file of report.testResults) {
  const name = file.name.slice(file.name.search(/(src|test)\/[^/]*/))
  for (const { title, status } of file.assertionResults) {
    const ids = /^((?:\[[A-Z]+-\d+\])+)/.exec(title)?.[1]?.match(/[A-Z]+-\d+/g) ?? []
    const text = `${name}: ${title.replace(/^(\[[A-Z]+-\d+\])+\s*/, '')}`
    for (const id of ids) proofs.set(id, [...(proofs.get(id) ?? []), { text, isPassed: status === 'passed' }])
  }
}
const known = new Set(rows.map((row) => row.id))
const unknown = [...proofs.keys()].filter((id) => !known.has(id))
if (unknown.length > 0) {
  console.error(`tests name rows that do not exist: ${unknown.join(', ')}`)
  process.exit(1)
}
const counts: Record<string, number> = { passing: 0, failing: 0, differs: 0, missing: 0 }
const lines: string[] = []
for (const { id, title } of rows) {
  const own = proofs.get(id) ?? []
  const passed = own.filter((proof) => proof.isPassed)
  const state =
    own.length > passed.length ? 'failing' : passed.length > 0 ? 'passing' : differs[id] ? 'differs' : 'missing'
  counts[state] = (counts[state] ?? 0) + 1
  const proof = state === 'differs' ? differs[id] : passed.map(({ text }) => text).join('<br>')
  lines.push(`| ${id} | ${title} | ${state} | ${(proof ?? '').replaceAll('|', '\\|')} |`)
}
const summary = Object.entries(counts)
  .map(([state, count]) => `${count} ${state}`)
  .join(', ')
const head = ['# Features', '', `Derived from the tests by \`npm run features\`: ${summary}.`, '']
head.push(
  '`EXTRA-nn` are features that users of Ray expect beyond its guide.',
  '',
  '| id | feature | state | proof |',
  '|---|---|---|---|',
)
fs.writeFileSync('docs/features.md', [...head, ...lines, ''].join('\n'))
console.log(`features: ${summary}`)
