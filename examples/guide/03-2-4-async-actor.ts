// Guide 3.2, fourth sample (asyncio actors): many requests at once in one actor. A class with async methods overlaps its calls; the
// pages come from a server in this file instead of the Internet.

import http from 'node:http'
import type { AddressInfo } from 'node:net'
import * as ray from 'ray-ts'

class AsyncActor {
  async fetchUrl(url: string): Promise<string> {
    const response = await fetch(url)
    return response.text()
  }

  async batchFetch(urls: readonly string[]): Promise<string[]> {
    return Promise.all(urls.map((url) => this.fetchUrl(url)))
  }
}

let [open, openMax] = [0, 0]
const server = http.createServer((request, response) => {
  openMax = Math.max(openMax, ++open)
  setTimeout(() => {
    open--
    response.end(`page ${request.url}`)
  }, 100)
})
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

await using _cluster = await ray.init()
const actor = ray.remote(AsyncActor).options({ maxConcurrency: 100 }).remote()

const pages = await ray.get(Array.from({ length: 20 }, (_, i) => actor.fetchUrl.remote(`${base}/${i}`)))
console.log(pages.length, pages[7])
console.log((await ray.get(actor.batchFetch.remote([`${base}/a`, `${base}/b`]))).join(', '))
console.log(openMax > 1 ? 'requests overlapped' : 'one at a time')
server.close()
//> 20 page /7
//> page /a, page /b
//> requests overlapped
