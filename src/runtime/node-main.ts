// Entry of the node process. It ends when its standard input does: that pipe is the life of the driver that started it.

import { NODE_CONFIG_VARIABLE, type NodeConfig } from './node-config.ts'
import { NodeServer } from './node-server.ts'

const config = JSON.parse(process.env[NODE_CONFIG_VARIABLE] ?? '{}') as NodeConfig
delete process.env[NODE_CONFIG_VARIABLE]
process.title = 'ray-ts node'
const server = new NodeServer(config)
if (config.cluster) process.on('SIGTERM', () => server.end('ray stop'))
else process.stdin.on('end', () => server.end('the driver is gone'))
process.stdin.on('error', () => server.end('the driver is gone'))
process.stdin.resume()
process.on('SIGINT', () => {}) // The driver decides.
process.on('SIGTERM', () => server.end('SIGTERM'))
process.on('SIGUSR2', () => server.writeDebugState())
process.on('uncaughtException', (error) => {
  console.error(error)
  server.end(`the node process failed: ${error.message}`)
})
server.listen().then(
  () => process.stdout.write('ready\n'),
  (error: unknown) => {
    console.error(error)
    process.exit(1)
  },
)
