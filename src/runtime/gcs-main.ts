// Entry of the GCS process.

import { GcsProcess } from './gcs-process.ts'
import { GCS_CONFIG_VARIABLE, type GcsProcessConfig } from './node-config.ts'

const config = JSON.parse(process.env[GCS_CONFIG_VARIABLE] ?? '{}') as GcsProcessConfig
delete process.env[GCS_CONFIG_VARIABLE]
process.title = 'ray-ts gcs'

function fail(error: unknown): void {
  console.error(error)
  process.exit(1)
}
const gcs = new GcsProcess(config, fail)
process.on('SIGINT', () => {}) // Whoever holds the terminal decides.
process.on('SIGTERM', () => {
  const leave = (): NodeJS.Immediate => setImmediate(() => process.exit(0)) // The last words to nodes have left by then.
  gcs.close().then(leave, leave)
})
gcs.listen().then((port) => process.stdout.write(`ready ${port}\n`), fail)
