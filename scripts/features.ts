// Writes docs/features.md from the report of the last full test run (`npm test`).

import fs from 'node:fs'
import path from 'node:path'
import { derive, type Report, type Row, render } from './conformance.ts'
import { sourceFiles } from './source-files.ts'

const REPORT = '.cache/test-report.json'

function fail(message: string): never {
  console.error(message)
  process.exit(1)
}

if (!fs.existsSync(REPORT)) fail(`${REPORT} is not there: run npm test first`)
const rows = JSON.parse(fs.readFileSync('docs/features-data.json', 'utf8')) as Row[]
const differs = JSON.parse(fs.readFileSync('docs/features-differs.json', 'utf8')) as Record<string, string>
const report = JSON.parse(fs.readFileSync(REPORT, 'utf8')) as Report

// A run of some files only would mark the rows of all others missing.
const ran = new Set(report.testResults.map(({ name }) => path.relative('.', name)))
const absent = [...sourceFiles('src'), ...sourceFiles('test')].filter(
  (file) => /\.test\.ts$/.test(file) && !ran.has(file),
)
if (absent.length > 0)
  fail(`the last run was not a full one (${absent.length} files are not in it, such as ${absent[0]}): run npm test`)

const { page, summary } = render(derive(rows, differs, report))
fs.writeFileSync('docs/features.md', page)
console.log(`features: ${summary}`)
