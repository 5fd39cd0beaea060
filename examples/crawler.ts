// An async actor works on many things at once; concurrency groups keep one kind of call from starving another.

import assert from 'node:assert/strict'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import * as ray from 'ray-ts'

const PAGES = 30

class Crawler {
  private readonly titles = new Map<string, string>()
  private open = 0
  private openMax = 0

  /** Up to eight at once, because of its group. */
  async visit(url: string): Promise<void> {
    this.openMax = Math.max(this.openMax, ++this.open)
    const response = await fetch(url)
    const html = await response.text()
    this.titles.set(url, /<title>(.*?)<\/title>/.exec(html)?.[1] ?? '')
    this.open--
  }

  /** In the default group: it answers while visits wait for the network. */
  async status(): Promise<{ visited: number; openMax: number }> {
    return { visited: this.titles.size, openMax: this.openMax }
  }
}
ray.method({ concurrencyGroup: 'network' })(Crawler.prototype.visit)

const server = http.createServer((request, response) => {
  setTimeout(() => response.end(`<title>page ${request.url}</title>`), 20)
})
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
const { port } = server.address() as AddressInfo

await using _cluster = await ray.init()
const crawler = ray.remote(Crawler, { concurrencyGroups: { network: 8 } }).remote()
const visits = Array.from({ length: PAGES }, (_, i) => crawler.visit.remote(`http://127.0.0.1:${port}/${i}`))

const early = await ray.get(crawler.status.remote())
assert.ok(early.visited < PAGES, 'status did not wait for the visits')
await ray.get(visits)
const { visited, openMax } = await ray.get(crawler.status.remote())
assert.equal(visited, PAGES)
assert.ok(openMax > 1 && openMax <= 8, `${openMax}`)
server.close()
console.log(`${visited} pages, at most 8 at a time`)
//> 30 pages, at most 8 at a time
