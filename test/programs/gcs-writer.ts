// Writes numbered batches to a folder until it is killed, and says which are durable. Batch n: the counter, row n % 50, and no row (n + 25) % 50.
import { LmdbStorage } from '../../src/runtime/lmdb-storage.ts'

const storage = new LmdbStorage(process.argv[2] as string)
await storage.open()
const records = await storage.load()
let n = Number(new TextDecoder().decode(records.find(({ key }) => key === 'counter')?.value ?? new Uint8Array()))
process.stdout.write('ready\n')
async function writeOn(): Promise<void> {
  for (;;) {
    const own = ++n
    await storage.write([
      { table: 'state', key: 'counter', value: Buffer.from(String(own)) },
      { table: 'rows', key: String(own % 50), value: Buffer.alloc(20 + ((own * 997) % 20_000), String(own)) },
      { table: 'rows', key: String((own + 25) % 50), value: null },
    ])
    process.stdout.write(`${own}\n`)
  }
}
// Several at once: they share transactions.
await Promise.all([writeOn(), writeOn(), writeOn()])
